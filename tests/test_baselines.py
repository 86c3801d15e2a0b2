"""Other methods: what they ask, what they choose, and that all keep to the same rules."""

import json
import re

import numpy as np
import pytest

from facsynth.baselines.alpaca import rouge_l
from facsynth.baselines.evol_instruct import OPERATIONS
from facsynth.baselines.job import Local
from facsynth.baselines.prismatic import sparse_members
from facsynth.baselines.run import BaselineRun
from facsynth.baselines.settings import BASELINES, BaselineSettings
from facsynth.baselines.synalign import herd, most_uncertain
from facsynth.baselines.vectors import gradient_rows, local_parts
from facsynth.chat.budget import Spending, limited_chat
from facsynth.chat.cache import CachedChat
from facsynth.chat.scripted import ScriptedChat
from facsynth.chat.settings import Generator, Policy
from facsynth.data.read import read_samples
from facsynth.errors import DataError, MismatchError
from facsynth.records import user_text
from tiny_pair import planted_pair, planted_tokenizer, talk, write_about

SEEDS = [talk(f"s{i}", f"we saw a cat on road {i} and liked it so very much") for i in range(6)]
LONG, SHORT = (
    "they took my dog {} to the small red house on a road",
    "his dog {} found the old house",
)
ANCHOR = [talk(f"a{i}", (LONG if i % 2 else SHORT).format(i)) for i in range(9)]
WRITTEN = BaselineSettings(max_samples=5, reply=False, max_overlap=0.9)


def new_text(request):
    """Another text of fillers for every request."""
    return write_about("tree", request, 11)


def run(method, script=new_text, folder=None, settings=WRITTEN, anchor=ANCHOR, **given):
    """What a method asks, and what it keeps."""
    chat = script if isinstance(script, ScriptedChat) else ScriptedChat(script)
    job = BaselineRun(method, SEEDS, anchor, settings=settings)
    local = Local(**{"vectors": VECTORS, "tokenizer": planted_tokenizer} | given)
    return chat, job.execute(CachedChat(chat, folder / "replies.sqlite"), folder, local=local)


def numbers(texts):
    """A vector for each text that depends on its words alone."""
    return np.array([[len(t), t.count("e"), t.count("a"), t.count("s")] for t in texts], float)


VECTORS = {"hidden": numbers, "gradient": numbers}


def asked(request):
    return request.messages[-1].content


SCRIPTS = {
    "alpaca": lambda r: "\n".join(f"{i}. {write_about(w, r, 11)}" for i, w in enumerate("abc", 4)),
    "cot-self-instruct": lambda r: f"I plan it. [New Text Begin]{new_text(r)}[New Text End]",
    "evol-instruct": lambda r: "Different" if "one word" in asked(r) else new_text(r),
}


@pytest.mark.parametrize("method", BASELINES)
def test_every_method_keeps_as_many_texts_as_wanted_under_the_common_rules(method, tmp_path):
    _, found = run(method, SCRIPTS.get(method, new_text), tmp_path)
    assert len(found.samples) == 5
    assert len({user_text(s) for s in found.samples}) == 5
    assert all(7 <= len(user_text(s).split()) <= 13 for s in found.samples)
    rows = [json.loads(line) for line in found.data.read_text().splitlines()]
    assert {row["provenance"]["method"] for row in rows} == {method}
    assert read_samples(found.data)[0].messages == found.samples[0].messages


@pytest.mark.parametrize("method", BASELINES)
def test_every_method_drops_what_copies_the_anchor(method, tmp_path):
    copy = user_text(ANCHOR[1])
    script = {
        "alpaca": f"4. {copy}\n5. {copy}",
        "cot-self-instruct": f"[New Text Begin]{copy}[New Text End]",
        "evol-instruct": lambda r: "Different" if "one word" in asked(r) else copy,
    }.get(method, copy)
    settings = BaselineSettings(max_samples=2, max_rounds=2, reply=False)
    _, found = run(method, script, tmp_path, settings)
    assert found.samples == ()
    assert found.outcomes["near-copy"] > 0


def test_alpaca_lists_three_seed_texts_and_asks_for_more_of_the_list(tmp_path):
    chat, _ = run("alpaca", SCRIPTS["alpaca"], tmp_path)
    first = asked(chat.history[0])
    shown = re.findall(r"^\d+\. (.+)$", first, re.MULTILINE)
    assert len(shown) == 3
    assert set(shown) <= {user_text(s) for s in SEEDS}
    assert first.endswith("\n4.")


def test_alpaca_drops_what_is_like_a_known_text(tmp_path):
    near = user_text(SEEDS[0]).replace("liked", "wanted")
    _, found = run("alpaca", f"4. {near}", tmp_path, BaselineSettings(max_rounds=1, reply=False))
    assert found.outcomes["like a known text (ROUGE-L)"] > 0


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence():
    # The police killed the gunman / the gunman killed police: 2 words in order, of 5 and 4.
    assert rouge_l(["a", "b", "c", "a", "d"], ["a", "d", "c", "b"]) == pytest.approx(2 * 2 / 9)
    assert rouge_l([], ["a"]) == 0.0


def test_evol_instruct_rewrites_a_pool_text_by_one_operation(tmp_path):
    chat, found = run("evol-instruct", SCRIPTS["evol-instruct"], tmp_path)
    first = asked(chat.history[0])
    assert sum(operation in first for operation in OPERATIONS.values()) == 1
    assert any(user_text(s) in first for s in SEEDS)
    assert {r["provenance"]["operation"] for r in _rows(found)} <= set(OPERATIONS)


def test_evol_instruct_drops_what_the_generator_calls_equal(tmp_path):
    def script(request):
        return "Equal." if "one word" in asked(request) else new_text(request)

    _, found = run("evol-instruct", script, tmp_path)
    assert found.samples == ()
    assert found.outcomes["no gain over its source"] > 0


def test_magpie_gives_only_the_beginning_of_a_users_turn(tmp_path):
    chat, _ = run("magpie", new_text, tmp_path)
    assert chat.history[0].is_raw
    assert asked(chat.history[0]).endswith("<|im_start|>user\n")
    assert not any(user_text(s) in asked(r) for s in SEEDS for r in chat.history)


def test_local_generator_of_magpie_brings_its_template():
    reader, _ = planted_pair()
    local = local_parts(lambda: reader, Generator())
    assert local.tokenizer() is reader.tokenizer
    assert local_parts(lambda: reader, Generator(chat_model="m")).tokenizer is None


def test_magpie_at_an_endpoint_needs_the_turn_by_name(tmp_path):
    with pytest.raises(DataError, match="name it with --user-turn"):
        run("magpie", new_text, tmp_path, tokenizer=None)
    settings = BaselineSettings(max_samples=1, reply=False, user_turn="[USER] ")
    chat, _ = run("magpie", new_text, tmp_path / "named", settings, tokenizer=None)
    assert asked(chat.history[0]) == "[USER] "


def test_cot_self_instruct_takes_what_stands_between_the_marks(tmp_path):
    chat, found = run("cot-self-instruct", SCRIPTS["cot-self-instruct"], tmp_path)
    assert "Step 1" in asked(chat.history[0])
    assert asked(chat.history[0]).count("<text>") == 2
    assert not any("plan" in user_text(s) for s in found.samples)
    _, found = run("cot-self-instruct", "no marks at all", tmp_path / "bare")
    assert found.outcomes["no text between the marks"] > 0


def test_sao_writes_in_the_role_of_a_persona(tmp_path):
    def script(request):
        return "A baker." if "Who might" in asked(request) else new_text(request)

    chat, found = run("sao", script, tmp_path)
    assert any("Play this role: A baker." in asked(r) for r in chat.history)
    assert {row["provenance"]["persona"] for row in _rows(found)} == {"A baker."}, found.outcomes


def test_sao_judges_its_own_pairs_in_a_random_order(tmp_path):
    def script(request):
        if "Which answer" in asked(request):
            return "B" if asked(request).index("fine") > asked(request).index("poor") else "A"
        if len(request.messages) == 1 and "Who might" not in asked(request):
            return "a fine answer" if request.seed % 2 else "a poor answer"
        return new_text(request)

    settings = BaselineSettings(max_samples=12, task="reward", max_overlap=0.9)
    chat, found = run("sao", script, tmp_path, settings)
    judged = [asked(r) for r in chat.history if "Which answer" in asked(r)]
    assert len({text.index("fine") < text.index("poor") for text in judged}) == 2
    assert found.samples
    assert {s.messages[1].content for s in found.samples} == {"a fine answer"}
    assert {s.rejected[1].content for s in found.samples} == {"a poor answer"}


def test_prismatic_keeps_what_lies_where_the_pool_is_sparse():
    pool = np.array([[0.0, 0], [0.1, 0], [0, 0.1], [0.1, 0.1], [9, 9], [9, 9.1], [5, 0], [5, 0.1]])
    new = np.array([[0.05, 0.05], [9.0, 9.05]])
    assert sparse_members(pool, new, random_seed=0).tolist() == [False, True]


def test_gradients_have_length_one_and_leave_the_model_as_it_was():
    lm = planted_pair()[0]
    before = [p.requires_grad for p in lm.model.parameters()]
    rows = gradient_rows(["we saw a cat", "we saw a cat", "it was so good", "cat"], lm)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1, 1, 0])
    assert rows[0] @ rows[1] == pytest.approx(1.0)
    assert rows[0] @ rows[2] < 0.99
    assert [p.requires_grad for p in lm.model.parameters()] == before


def test_synalign_shows_first_what_it_is_least_certain_about():
    gram = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.1], [0.1, 0.1, 1.0]])
    # After row 0 the variance left is about 1 - 0.9² of row 1, and 1 - 0.1² of row 2.
    assert most_uncertain(gram, [0]) == 2


def test_synalign_keeps_in_the_order_of_kernel_herding():
    gram = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    # Row 0 is nearest to the real texts; then row 2 (0.4 - 0) before row 1 (0.6 - 1/2).
    assert herd(gram, np.array([0.7, 0.6, 0.4])) == [0, 2, 1]


def test_synalign_writes_by_attributes_of_real_texts(tmp_path):
    def script(request):
        return "topic: dogs" if "attributes in one" in asked(request) else new_text(request)

    chat, found = run("synalign", script, tmp_path)
    assert asked(chat.history[0]).count("<text>") == 4
    assert {row["provenance"]["attributes"] for row in _rows(found)} == {"topic: dogs"}


@pytest.mark.parametrize(("method", "source"), [("undirected", SEEDS), ("anchor-text", ANCHOR)])
def test_controls_show_texts_as_earlier_answers(method, source, tmp_path):
    chat, _ = run(method, new_text, tmp_path)
    shown = [m.content for m in chat.history[0].messages if m.role == "assistant"]
    assert set(shown) <= {user_text(s) for s in source}
    assert len(set(shown)) == 4


def test_run_goes_on_after_a_limit_and_asks_nothing_twice(tmp_path):
    def go(policy):
        chat = ScriptedChat(new_text)
        job = BaselineRun("undirected", SEEDS, ANCHOR, settings=WRITTEN)
        spending = Spending(policy, tmp_path / "replies.sqlite")
        return chat, job.execute(limited_chat(chat, spending), tmp_path)

    _, short = go(Policy(budget_calls=3))
    assert "budget_calls" in short.stopped
    assert len(short.samples) <= 3
    chat, whole = go(Policy())
    assert len(whole.samples) == 5
    assert len(chat.history) <= 5 - 3 + len(whole.outcomes) * 5
    assert len({r.key for r in chat.history}) == len(chat.history)


def test_folder_of_another_run_is_refused(tmp_path):
    run("undirected", new_text, tmp_path)
    settings = BaselineSettings(max_samples=4, reply=False, max_overlap=0.9)
    with pytest.raises(MismatchError, match="another max_samples"):
        run("undirected", new_text, tmp_path, settings)


def test_answers_are_written_where_they_are_wanted(tmp_path):
    settings = BaselineSettings(max_samples=2, max_overlap=0.9)
    _, found = run("undirected", new_text, tmp_path, settings)
    assert [m.role for s in found.samples for m in s.messages] == ["user", "assistant"] * 2


def _rows(found):
    return [json.loads(line) for line in found.data.read_text().splitlines()]
