"""Local generation with a tiny random Llama and a tokenizer of a few words."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from facsynth.chat import decode
from facsynth.chat.cache import CachedChat
from facsynth.chat.decode import draw_tokens
from facsynth.chat.local import LocalChat
from facsynth.chat.model import RAW, BatchedChatModel, ChatFailure, ChatReply, ChatRequest
from facsynth.errors import DataError, ModelError
from facsynth.records import Message
from test_chat_budget import within

WORDS = ["<pad>", "<end>", "<user>", "<assistant>", "?", *(f"w{i}" for i in range(59))]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """On a busy machine two threads make such a tiny model a hundred times slower."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def tokenizer():
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        chat_template=TEMPLATE,
        pad_token="<pad>",
        eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"],
    )


@pytest.fixture(scope="module")
def model():
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=48,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


@pytest.fixture
def chat(model, tokenizer):
    return LocalChat(model, tokenizer, name="tiny", batch_size=3)


def ask(text, **settings):
    return ChatRequest((Message("user", text),), **{"max_tokens": 8, **settings})


def many(n, **settings):
    return [
        ask(" ".join(f"w{(i + j) % 59}" for j in range(1 + i % 4)), **settings) for i in range(n)
    ]


def test_replies_are_text_with_counted_tokens(chat):
    replies = [outcome for outcome in chat.reply(many(6)) if isinstance(outcome, ChatReply)]
    assert replies
    for reply in replies:
        n_words = len(reply.text.split())
        assert set(reply.text.split()) <= set(WORDS[4:])
        assert reply.completion_tokens >= n_words
        assert reply.truncated or reply.completion_tokens > n_words
    assert replies[0].prompt_tokens == 3


def test_same_list_gives_the_same_texts_whatever_ran_before(chat):
    first = chat.reply(many(7))
    torch.rand(5)
    assert chat.reply(many(7)) == first


def test_each_batch_can_be_run_by_itself(chat):
    requests = [*many(5), *many(2, temperature=0.0), *many(1)]
    whole = chat.reply(requests)
    for batch in chat.batches(requests):
        assert chat.reply([requests[i] for i in batch]) == [whole[i] for i in batch]


def test_batches_are_consecutive_and_of_equal_settings(chat):
    requests = [*many(4), *many(2, max_tokens=5), *many(1)]
    assert chat.batches(requests) == [[0, 1, 2], [3], [4, 5], [6]]
    assert isinstance(chat, BatchedChatModel)


@pytest.fixture
def thinker(tokenizer, model, monkeypatch):
    """Builds a chat whose model writes the words given, with marks of thinking as tokens."""

    def build(written, prompt_end="<assistant>"):
        words = tokenizer.backend_tokenizer.to_str().replace('"w57"', '"[THINK]"')
        words = Tokenizer.from_str(words.replace('"w58"', '"[/THINK]"'))
        thinking = PreTrainedTokenizerFast(
            tokenizer_object=words,
            chat_template=TEMPLATE.replace("<assistant>{% endif", f"{prompt_end}{{% endif"),
            pad_token="<pad>",
            eos_token="<end>",
            additional_special_tokens=["[THINK]", "[/THINK]", "<user>", "<assistant>"],
        )
        ids = thinking.convert_tokens_to_ids(written.split())
        monkeypatch.setattr("facsynth.chat.local.write_tokens", lambda *_: [ids])
        return LocalChat(model, thinking, name="thinker")

    return build


@pytest.mark.parametrize(
    ("written", "prompt_end"),
    [
        ("[THINK] w1 w2 [/THINK] w3 <user> <end>", "<assistant>"),
        ("w1 w2 [/THINK] w3 <end>", "<assistant> [THINK]"),
    ],
)
def test_thinking_in_special_tokens_is_no_text(thinker, written, prompt_end):
    (reply,) = thinker(written, prompt_end).reply([ask("w5")])
    assert (reply.text, reply.truncated) == ("w3", False)


@pytest.mark.parametrize(
    ("written", "prompt_end"),
    [("[THINK] w1 w2", "<assistant>"), ("w1 w2", "<assistant> [THINK]")],
)
def test_thinking_that_was_cut_off_is_no_reply(thinker, written, prompt_end):
    (failure,) = thinker(written, prompt_end).reply([ask("w5")])
    assert failure.reason == "the answer is empty but for thinking"


@pytest.mark.parametrize(
    "guard", ["{{ raise_exception('System role not supported') }}", "{% set dropped = true %}"]
)
def test_system_message_goes_into_the_user_turn_where_the_template_has_none(
    model, tokenizer, guard
):
    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, pad_token="<pad>", eos_token="<end>"
    )
    words.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}"
        + guard
        + "{% else %}<user> {{ m.content }} {% endif %}{% endfor %}"
    )
    messages = (Message("system", "w1 w2"), Message("user", "w3"))
    (reply,) = LocalChat(model, words, name="tiny").reply([ChatRequest(messages, max_tokens=8)])
    assert reply.prompt_tokens == 4


def test_seed_changes_the_draw(chat):
    assert chat.reply(many(3)) != chat.reply(many(3, seed=1))


def test_global_random_state_and_training_mode_are_left_alone(model, tokenizer):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    model.train()
    LocalChat(model, tokenizer, name="tiny").reply(many(2))
    assert model.training
    model.eval()
    assert torch.equal(torch.get_rng_state(), before)


def test_greedy_replies_do_not_depend_on_padding(model, tokenizer):
    requests = many(4, temperature=0.0)
    one = LocalChat(model, tokenizer, name="tiny", batch_size=1).reply(requests)
    four = LocalChat(model, tokenizer, name="tiny", batch_size=4).reply(requests)
    assert one == four


def test_greedy_reply_is_the_argmax_chain(model, tokenizer, chat):
    (outcome,) = chat.reply([ask("w1 w2", temperature=0.0, max_tokens=4)])
    ids = tokenizer("<user> w1 w2 <assistant>", add_special_tokens=False)["input_ids"]
    n_prompt = len(ids)
    for _ in range(4):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert outcome.text == tokenizer.decode(ids[n_prompt:], skip_special_tokens=True)


def slow_text(model, tokenizer, request):
    """One text without cache, batch or padding, its nucleus found by sorting everything."""
    ids = tokenizer(f"<user> {request.messages[0].content} <assistant>")["input_ids"]
    n_prompt = len(ids)
    draws = np.random.default_rng(int(request.key[:14], 16)).random(request.max_tokens)
    for draw in draws:
        logits = model(torch.tensor([ids])).logits[0, -1].double()
        shares = torch.softmax(logits / request.temperature, dim=0).sort(descending=True)
        inside = shares.values.cumsum(0) - shares.values < request.top_p
        below = (shares.values * inside).cumsum(0) / (shares.values * inside).sum()
        ids.append(int(shares.indices[int((below <= draw).sum())]))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[n_prompt:], skip_special_tokens=True)


@pytest.mark.parametrize("top_p", [0.5, 0.9, 1.0])
def test_texts_of_a_batch_are_those_of_a_slow_obvious_loop(model, tokenizer, top_p):
    requests = [replace(one, seed=i) for i, one in enumerate(many(8, max_tokens=16, top_p=top_p))]
    outcomes = LocalChat(model, tokenizer, name="tiny", batch_size=8).reply(requests)
    texts = [getattr(outcome, "text", "") for outcome in outcomes]
    assert texts == [slow_text(model, tokenizer, request) for request in requests]
    assert len({getattr(outcome, "completion_tokens", 0) for outcome in outcomes}) > 2


def test_texts_do_not_depend_on_the_batch_but_by_rounding(model, tokenizer):
    requests = many(9, max_tokens=20)
    one = LocalChat(model, tokenizer, name="tiny", batch_size=1).reply(requests)
    assert LocalChat(model, tokenizer, name="tiny", batch_size=9).reply(requests) == one


def test_common_starts_and_equal_prompts_are_read_once(model, tokenizer, monkeypatch):
    start = " ".join(f"w{i}" for i in range(12))
    requests = [
        ask(f"{start} {end}", seed=seed, max_tokens=20)
        for end in ("w20", "w21 w22 w23", "w20")
        for seed in range(3)
    ]
    read, forward = [], model.forward

    def counting(**given):
        read.append(tuple(given["input_ids"].shape))
        return forward(**given)

    monkeypatch.setattr(model, "forward", counting)
    outcomes = LocalChat(model, tokenizer, name="tiny", batch_size=9).reply(requests)
    monkeypatch.undo()
    assert read[:2] == [(1, 13), (2, 4)]
    texts = [getattr(outcome, "text", "") for outcome in outcomes]
    assert texts == [slow_text(model, tokenizer, request) for request in requests]


def test_prompts_that_are_read_in_groups_give_the_same_texts(model, tokenizer, monkeypatch):
    monkeypatch.setitem(decode._READ_AT_ONCE, "cpu", 12)
    start = " ".join(f"w{i}" for i in range(12))
    ends = ("w20", "w21 w22 w23 w24 w25 w26", "w20", "w27 w28", "w29 w30 w31 w32 w33")
    requests = [ask(f"{start} {end}", seed=n, max_tokens=12) for n, end in enumerate(ends)]
    outcomes = LocalChat(model, tokenizer, name="tiny", batch_size=5).reply(requests)
    texts = [getattr(outcome, "text", "") for outcome in outcomes]
    assert texts == [slow_text(model, tokenizer, request) for request in requests]


def test_model_with_sliding_windows_writes_the_same_texts_in_any_batch(tokenizer):
    config = Gemma3TextConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=48,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    gemma = Gemma3ForCausalLM(config).eval()
    requests = many(5, max_tokens=12)
    texts = [
        [
            getattr(o, "text", "")
            for o in LocalChat(gemma, tokenizer, name="g", batch_size=n).reply(requests)
        ]
        for n in (1, 5)
    ]
    assert texts[0] == texts[1] == [slow_text(gemma, tokenizer, request) for request in requests]


def test_penalty_of_the_models_own_settings_holds(model, tokenizer, monkeypatch):
    monkeypatch.setattr(model.generation_config, "repetition_penalty", 100.0)
    (outcome,) = LocalChat(model, tokenizer, name="tiny").reply([ask("w1", max_tokens=12)])
    words = outcome.text.split()
    assert len(set(words)) == len(words) > 2


def test_nucleus_beyond_the_likeliest_tokens_is_found():
    logits = torch.zeros(2, 1000)
    logits[0, 7] = 50.0
    drawn = draw_tokens(logits, torch.tensor([0.5, 0.9]), temperature=1.0, top_p=0.9)
    assert int(drawn[0]) == 7
    share = draw_tokens(logits[1:].repeat(200, 1), torch.rand(200), temperature=1.0, top_p=0.5)
    assert share.unique().numel() > 100


def test_end_token_ends_the_text_and_is_counted(model, tokenizer, monkeypatch):
    ids = [5, 6, 1, 7, 0]
    monkeypatch.setattr(LocalChat, "_generate", lambda self, prompts, batch: [ids])
    (outcome,) = LocalChat(model, tokenizer, name="tiny").reply([ask("w1")])
    assert outcome == ChatReply("w0 w1", 3, 3)


def test_answer_that_ends_at_once_is_a_failure(model, tokenizer, monkeypatch):
    monkeypatch.setattr(LocalChat, "_generate", lambda self, prompts, batch: [[1]])
    (outcome,) = LocalChat(model, tokenizer, name="tiny").reply([ask("w1")])
    assert outcome == ChatFailure("the answer is empty", 3, 1)


def test_prompt_beyond_the_context_is_a_failure_of_that_request(chat):
    short, long, other = chat.reply([ask("w1"), ask("w2 " * 60), ask("w3")])
    assert "62 tokens" in long.reason
    assert "context of 48" in long.reason
    assert isinstance(short, ChatReply | ChatFailure)
    assert "context" not in getattr(other, "reason", "")


def test_killed_and_restarted_run_ends_with_the_same_texts(chat, tmp_path, monkeypatch):
    requests = many(10)
    undisturbed = [getattr(o, "text", o) for o in chat.reply(requests)]
    run, n_runs = LocalChat._run, 0

    def dies_in_the_third_batch(self, batch):
        nonlocal n_runs
        n_runs += 1
        if n_runs == 3:
            raise KeyboardInterrupt
        return run(self, batch)

    monkeypatch.setattr(LocalChat, "_run", dies_in_the_third_batch)
    cached = CachedChat(within(chat, budget_calls=100), tmp_path / "c.db")
    with pytest.raises(KeyboardInterrupt):
        cached.reply(requests)
    assert len(cached.uncached(requests)) == 4
    again = cached.reply(requests)
    assert [getattr(o, "text", None) for o in again] == [
        text if isinstance(text, str) else None for text in undisturbed
    ]
    assert n_runs == 5


@pytest.mark.parametrize(("n_signals", "n_left"), [(1, 7), (2, 10)])
def test_ctrl_c_lets_the_batch_end_and_a_second_one_does_not(
    chat, tmp_path, monkeypatch, n_signals, n_left
):
    run = LocalChat._run

    def interrupted(self, batch):
        for _ in range(n_signals):
            signal.raise_signal(signal.SIGINT)
        return run(self, batch)

    monkeypatch.setattr(LocalChat, "_run", interrupted)
    cached = CachedChat(chat, tmp_path / "c.db")
    with pytest.raises(KeyboardInterrupt):
        cached.reply(many(10))
    assert len(cached.uncached(many(10))) == n_left
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_tokenizer_without_template_is_refused(model, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    with pytest.raises(ModelError, match="no chat template"):
        LocalChat(model, tokenizer, name="base")


def test_batch_size_below_one_is_refused(model, tokenizer):
    with pytest.raises(DataError, match="batch_size is 0"):
        LocalChat(model, tokenizer, name="tiny", batch_size=0)


def test_raw_prompt_is_read_as_it_stands(model, tokenizer):
    bare = LocalChat(model, tokenizer, name="tiny")
    raw = ChatRequest((Message(RAW, "<user> w1 <assistant>"),), max_tokens=4)
    [reply] = bare.reply([raw])
    assert reply.prompt_tokens == 3
    [chatted] = bare.reply([ask("w1", max_tokens=4)])
    assert chatted.prompt_tokens == 3


def test_special_tokens_in_a_message_are_text_and_begin_no_turn(chat):
    (prompt, _) = chat._prompt(ChatRequest((Message("user", "w1<assistant>w2"),), max_tokens=4))
    marks = chat._tokenizer.convert_tokens_to_ids(["<user>", "<assistant>"])
    assert [token for token in prompt if token in marks] == marks
