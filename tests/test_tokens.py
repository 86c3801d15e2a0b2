"""Which tokens are scored: those of the contents, and no others."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facsynth.errors import DataError
from facsynth.models.render import chat_format
from facsynth.models.tokens import tokenize_samples
from facsynth.records import Message, Sample
from tiny import FAMILY_TEMPLATES, SYSTEM, cached_tokenizer, chat, make_tokenizer

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PADDED = st.builds("{}{}{}".format, st.sampled_from(["", " ", "\n", "  \n"]), TEXT, TEXT)


def tokenize(sample, template="chatml", *, bos="<s>", **options):
    [text] = tokenize_samples([sample], cached_tokenizer(template, bos=bos), **options)
    return text


def scored_text(text, template="chatml"):
    return cached_tokenizer(template).decode(text.input_ids[text.scored])


def characters(text, flags):
    """Characters of the rendered text that the flagged tokens cover."""
    return {i for start, end in text.offsets[flags].tolist() for i in range(start, end)}


def check_covered(text, spans):
    """Scored tokens cover all of it but white space that shares a token with the template."""
    covered = characters(text, text.scored)
    assert covered <= spans
    assert "".join(text.rendered[i] for i in spans - covered).strip() == ""


@pytest.mark.parametrize("template", ["chatml", "trim", "no default"])
def test_scored_tokens_are_those_of_the_contents(template):
    text = tokenize(chat("a", "the cat sat", "a red ball"), template)
    assert scored_text(text, template) == "the cat sata red ball"


@pytest.mark.parametrize("family", FAMILY_TEMPLATES)
def test_scored_tokens_are_those_of_the_contents_in_the_form_of_every_family(family):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = FAMILY_TEMPLATES[family]
    sample = chat("a", "the cat sat.", "a red ball", "ok", "(the mat)")
    scored = {}
    for score in ("all", "assistant"):
        [text] = tokenize_samples([sample], tokenizer, score=score)
        scored[score] = tokenizer.decode(text.input_ids[text.scored]).replace(" ", "")
        assert not text.scored[0]
    assert scored == {"all": "thecatsat.aredballok(themat)", "assistant": "aredball(themat)"}


@pytest.mark.parametrize("content", ["the cat", "a red ball.", ""])
def test_a_token_with_a_template_word_in_it_is_not_scored(content):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}the{{ m.content }}mat{% endfor %}"
    [text] = tokenize_samples([chat("a", content)], tokenizer)
    covered = characters(text, text.scored)
    assert covered <= set(range(3, 3 + len(content)))


def test_template_and_special_tokens_and_the_first_position_are_not_scored():
    text = tokenize(chat("a", "the cat"))
    unscored = "".join(text.rendered[i] for i in sorted(characters(text, ~text.scored)))
    assert unscored == text.rendered.replace("the cat", "")
    assert not text.scored[0]


@pytest.mark.parametrize(
    "contents",
    [
        ("user", "assistant", "system"),
        (SYSTEM, SYSTEM),
        ("\nuser\n", "assistant\n", "\n"),
        ("user\nuser", "user", "ser"),
        ("<|im_end|>\n<|im_start|>assistant\nhi", "a"),
    ],
)
def test_a_content_that_repeats_template_words_is_found_in_its_place(contents):
    text = tokenize(chat("a", *contents))
    head, spans = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n", set()
    for i, content in enumerate(contents):
        head += f"<|im_start|>{('user', 'assistant')[i % 2]}\n"
        spans |= set(range(len(head), len(head) + len(content)))
        head += content + "<|im_end|>\n"
    assert text.rendered == head
    check_covered(text, spans - characters(text, text.input_ids < 3))


def test_roles_select_whose_words_are_scored():
    sample = chat("a", "you are", "the cat", "sat on", roles=("system", "user", "assistant"))
    assert scored_text(tokenize(sample, score="user")) == "the cat"
    assert scored_text(tokenize(sample, score="assistant")) == "sat on"
    assert scored_text(tokenize(sample, score="all")) == "you arethe catsat on"


@pytest.mark.parametrize("aside", [True, False])
def test_reasoning_is_scored_or_not(aside):
    thought = "the cat saw"
    content = "a red ball" if aside else f"<think>{thought}</think>a red ball"
    answer = Message("assistant", content, reasoning=thought if aside else None)
    sample = Sample("a", (Message("user", "ok"), answer))
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.reasoning_content }}|{{ m.content }}>{% endfor %}"
    )
    scored = {}
    for flag in (True, False):
        [text] = tokenize_samples([sample], tokenizer, score_reasoning=flag)
        scored[flag] = tokenizer.decode(text.input_ids[text.scored])
    assert thought in scored[True]
    assert scored[False] == "oka red ball"


def test_plain_text_starts_with_bos_and_its_first_word_is_scored():
    text = tokenize(Sample("a", text="the cat sat"))
    assert text.input_ids[0] == 0
    assert scored_text(text) == "the cat sat"


def test_plain_text_that_brings_its_bos_gets_no_second_one():
    text = tokenize(Sample("a", text="<s>the cat"))
    assert text.input_ids.tolist().count(0) == 1
    assert scored_text(text) == "the cat"


def test_plain_text_without_bos_loses_only_its_first_token():
    text = tokenize(Sample("a", text="the cat sat"), bos=None)
    assert text.scored.tolist() == [False] + [True] * (len(text.input_ids) - 1)


@pytest.mark.parametrize("bos", ["<s>", None])
def test_empty_plain_text_has_no_scored_token(bos):
    assert tokenize(Sample("a", text=""), bos=bos).n_scored == 0


def test_a_tokenizer_without_template_joins_contents_after_bos():
    text = tokenize(chat("a", "the cat", "sat"), "none")
    assert text.rendered == "the cat\n\nsat"
    assert text.input_ids[0] == 0
    assert scored_text(text) == "the catsat"


def test_special_tokens_inside_a_content_are_not_scored():
    text = tokenize(chat("a", "the <|im_start|> cat<|im_end|> sat<s>"))
    assert scored_text(text) == "the  cat sat"


def test_tokens_cut_off_at_the_end_are_counted():
    whole = tokenize(Sample("a", text="the cat sat on the mat"))
    cut = tokenize(Sample("a", text="the cat sat on the mat"), max_length=4)
    assert cut.input_ids.tolist() == whole.input_ids[:4].tolist()
    assert cut.n_truncated == len(whole.input_ids) - 4
    assert whole.n_truncated == 0


def test_order_and_ids_survive_more_samples_than_one_chunk():
    samples = [Sample(f"s{i}", text=f"cat {i}") for i in range(600)]
    texts = tokenize_samples(samples, cached_tokenizer())
    assert [t.sample_id for t in texts] == [s.sample_id for s in samples]
    assert [t.rendered for t in texts] == [s.text for s in samples]


@pytest.mark.parametrize(
    ("template", "roles", "message"),
    [
        ("refuses system", ("system",), "refuses sample 'a' with the roles system: no sys"),
        ("drops tool", ("user", "tool"), "drops or rewrites the tool message of sample 'a'"),
        ("depends on content", ("user",), "rewrites the user message of sample 'a'"),
    ],
)
def test_a_template_that_refuses_drops_or_rewrites_is_a_clear_error(template, roles, message):
    with pytest.raises(DataError, match=message):
        tokenize(chat("a", *(["the cat"] * len(roles)), roles=roles), template)


def test_a_content_that_the_template_changes_is_found_by_what_surrounds_it():
    assert scored_text(tokenize(chat("a", "the cat", "sat"), "upper case")) == "THE CATSAT"


def test_a_template_set_later_is_used():
    tokenizer = make_tokenizer("chatml")
    for template in ("chatml", "no default"):
        tokenizer.chat_template = cached_tokenizer(template).chat_template
        [text] = tokenize_samples([chat("a", "the cat")], tokenizer)
        assert tokenizer.decode(text.input_ids[text.scored]) == "the cat"


def test_the_chat_format_of_several_templates_is_the_default_one():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    assert chat_format(tokenizer) == "{{ messages }}"


@pytest.mark.parametrize("template", ["chatml", "trim", "no default"])
@settings(max_examples=60, deadline=None)
@given(contents=st.lists(PADDED, min_size=1, max_size=3))
def test_scored_text_covers_the_contents_and_nothing_else(template, contents):
    text = tokenize(chat("a", *contents), template)
    spans, cursor = set(), 0
    for i, content in enumerate(contents):
        kept = content.strip() if template == "trim" else content
        head = f"<|im_start|>{('user', 'assistant')[i % 2]}\n"
        cursor = text.rendered.index(head + kept + "<|im_end|>", cursor) + len(head)
        spans |= set(range(cursor, cursor + len(kept)))
        cursor += len(kept)
    check_covered(text, spans)


@settings(max_examples=60, deadline=None)
@given(content=PADDED)
def test_scored_plain_text_is_the_text(content):
    text = tokenize(Sample("a", text=content))
    covered = characters(text, text.scored)
    assert covered == set(range(len(content)))


def test_a_preference_pair_is_read_by_its_chosen_side():
    pair = Sample("a", chat("a", "the cat").messages, rejected=(Message("user", "a ball"),))
    assert scored_text(tokenize(pair)) == "the cat"
