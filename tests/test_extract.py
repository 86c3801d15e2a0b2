"""Extraction: batching, prefixes and parts change nothing but the time."""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from activations import dense
from facsynth.errors import DataError, MismatchError, ModelError, SpaceError
from facsynth.folders import hold_folder
from facsynth.models.tokens import tokenize_samples
from facsynth.progress import Silent
from facsynth.records import Message, Sample, ToolCall
from facsynth.sae.files import load_sae, save_sae
from facsynth.sae.pairing import check_pair
from facsynth.table import reading, work
from facsynth.table.alike import check_same_features
from facsynth.table.extract import extract_features, extract_table, extract_tables
from facsynth.table.settings import ExtractSettings
from facsynth.table.table import open_table
from tiny import (
    FAMILIES,
    SYSTEM,
    chat,
    coordinate_sae,
    hooked,
    make_model,
    random_sae,
    tiny_lm,
)

WORDS = "you are a helpful cat and the red ball sat on a small mat user said nothing "
CONTENTS = [(WORDS[7 * i :] + WORDS)[: 4 + 23 * i % 71].strip() for i in range(9)]
CHATS = [chat(f"c{i}", text, CONTENTS[-i]) for i, text in enumerate(CONTENTS)]
TEXTS = [Sample(f"t{i}", text=text) for i, text in enumerate(CONTENTS)]
EMPTY = [Sample("e0", text=""), chat("e1", "", "")]
POOLS = {"chats": CHATS, "texts": TEXTS, "mixed": CHATS[:4] + EMPTY + TEXTS[:4]}
GATES = ("topk", "standard", "jumprelu")


def reference(lm, sae, samples):
    """Dense codes of every token, one sample at a time; zero where a token is not scored."""
    rows = []
    for text in tokenize_samples(samples, lm.tokenizer):
        codes = np.zeros((len(text.input_ids), sae.config.d_sae), dtype=np.float32)
        if text.n_scored:
            residual = hooked(lm, text.input_ids, sae.config.layer)
            codes[text.scored] = sae.encode(residual)[text.scored]
        rows.append(codes)
    return rows


def assert_matches(rows, expected):
    """The features are those of the dense codes; each value is the largest, at its position."""
    for row, codes in enumerate(expected):
        entries = slice(*rows.row_starts[row : row + 2])
        ids, values = rows.feature_ids[entries], rows.values[entries]
        largest = codes.max(0, initial=0)
        assert ids.tolist() == np.flatnonzero(largest).tolist()
        np.testing.assert_allclose(values, largest[ids], atol=1e-5)
        np.testing.assert_allclose(codes[rows.positions[entries], ids], values, atol=1e-5)


def count_reads(monkeypatch, *, fail_at=None, error=KeyboardInterrupt):
    """Count the batches that go through the model; the `fail_at`th one is killed."""
    calls, read = [], reading.read_residuals

    def counted(*args, **options):
        if len(calls) == fail_at:
            raise error
        calls.append(len(args[1]))
        return read(*args, **options)

    monkeypatch.setattr(reading, "read_residuals", counted)
    return calls


class Said(Silent):
    """Keeps what is said, and the words beside the bar."""

    def __init__(self):
        self.lines, self.notes = [], []

    @contextmanager
    def task(self, name, total, unit):
        notes = self.notes

        class Noting:
            def advance(self, n=1, note=""):
                notes.append(note)

        yield Noting()

    def say(self, line):
        self.lines.append(line)


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("gate", "pool"),
    [*((GATES[0], pool) for pool in POOLS), *((gate, "mixed") for gate in GATES[1:])],
)
def test_batches_and_order_do_not_change_the_result(gate, pool):
    lm, sae, samples = tiny_lm(), random_sae(gate), POOLS[pool]
    expected = reference(lm, sae, samples)

    @settings(max_examples=8, deadline=None)
    @given(st.permutations(range(len(samples))), st.integers(1, 300))
    def run(order, batch_tokens):
        chosen = [samples[i] for i in order]
        options = ExtractSettings(batch_tokens=batch_tokens)
        rows = extract_features(chosen, lm, sae, settings=options)
        assert rows.sample_ids == tuple(s.sample_id for s in chosen)
        assert_matches(rows, [expected[i] for i in order])

    run()


@settings(max_examples=8, deadline=None)
@given(st.permutations(POOLS["mixed"]), st.integers(1, 12), st.sampled_from(GATES))
def test_parts_of_a_table_do_not_change_the_result(samples, part_samples, gate):
    lm, sae, options = tiny_lm(), random_sae(gate), ExtractSettings(part_samples=part_samples)
    with tempfile.TemporaryDirectory() as folder:
        table = extract_table(samples, lm, sae, folder, settings=options)
        assert_matches(table.activations(), reference(lm, sae, samples))
        assert table.samples() == samples
        assert table.manifest.n_parts == -(-len(samples) // part_samples)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [0, 2])
def test_every_family_gives_the_reference(family, layer):
    lm, sae = tiny_lm(family), random_sae(layer=layer)
    assert_matches(extract_features(CHATS, lm, sae), reference(lm, sae, CHATS))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shared_prefix_is_run_once_and_changes_nothing(family, monkeypatch):
    lm, sae, prefixes = tiny_lm(family), random_sae(), []
    read_prefix = reading.read_prefix
    monkeypatch.setattr(
        reading, "read_prefix", lambda *args: prefixes.append(args[1]) or read_prefix(*args)
    )
    with_prefix = extract_features(CHATS, lm, sae)
    head = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
    assert [lm.tokenizer.decode(ids) for ids in prefixes] == [head]
    monkeypatch.setattr(reading, "_MIN_PREFIX", 10_000)
    without = extract_features(CHATS, lm, sae)
    assert np.array_equal(with_prefix.feature_ids, without.feature_ids)
    np.testing.assert_allclose(with_prefix.values, without.values, atol=1e-5)


def test_long_texts_are_read_whole_beside_short_ones_behind_the_prefix(monkeypatch):
    lm, sae, used = tiny_lm("llama"), random_sae(), []
    samples = [*CHATS, chat("long", "the sun shines over the sea " * 40)]
    read = reading.read_residuals

    def watched(*args, prefix):
        used.append((max(map(len, args[1])), prefix is not None))
        return read(*args, prefix=prefix)

    monkeypatch.setattr(reading, "read_residuals", watched)
    found = extract_features(samples, lm, sae, settings=ExtractSettings(batch_tokens=64))
    assert used[0][1] is False
    assert used[-1][1] is True
    monkeypatch.setattr(reading, "prefix_pays", lambda *_: True)
    always = extract_features(samples, lm, sae, settings=ExtractSettings(batch_tokens=64))
    assert np.array_equal(found.feature_ids, always.feature_ids)
    np.testing.assert_allclose(found.values, always.values, atol=1e-5)


@pytest.mark.parametrize(("longest", "pays"), [(407, True), (408, False)])
def test_the_prefix_of_smollm_pays_up_to_407_tokens(longest, pays):
    assert reading.prefix_pays(24, longest, 576) is pays


@pytest.mark.parametrize(("gate", "least"), [("jumprelu", 0.99), ("topk", 0.95)])
def test_bfloat16_finds_nearly_the_same_features(gate, least):
    """Which features are among the largest k flips more easily than which pass a threshold."""
    lm, sae = tiny_lm(), random_sae(gate, d_sae=512)
    if gate == "jumprelu":
        sae.threshold.data += 2
    low = replace(lm, model=make_model().bfloat16())
    exact, rounded = (dense(extract_features(CHATS, m, sae)) > 0 for m in (lm, low))
    assert (exact & rounded).sum() / (exact | rounded).sum() >= least


def test_a_hand_made_sae_gives_the_largest_coordinate():
    lm, sae, [sample] = tiny_lm(), coordinate_sae(), TEXTS[3:4]
    residual = hooked(lm, tokenize_samples([sample], lm.tokenizer)[0].input_ids, 1)[1:]
    both = torch.cat([residual, -residual], dim=1).max(0).values.clamp_min(0)
    np.testing.assert_allclose(dense(extract_features([sample], lm, sae))[0], both, atol=1e-5)


def test_memory_and_table_agree(tmp_path):
    lm, sae = tiny_lm(), random_sae()
    table = extract_table(CHATS, lm, sae, tmp_path / "table", sae_name="mine")
    rows, stored = extract_features(CHATS, lm, sae), table.activations()
    for name in ("n_tokens", "row_starts", "feature_ids", "values", "positions"):
        assert np.array_equal(getattr(rows, name), getattr(stored, name))
    assert stored.sample_ids == rows.sample_ids
    assert table.manifest.n_entries == len(rows.values)
    assert table.manifest.n_tokens == rows.n_tokens.sum()
    assert table.manifest.source.sae_name == "mine"


@pytest.mark.parametrize("batch_tokens", [1, 64, 4096])
def test_hidden_states_are_means_over_the_scored_tokens(tmp_path, batch_tokens):
    lm, saes = tiny_lm(), {"a": random_sae(layer=0), "b": random_sae(layer=2)}
    options = ExtractSettings(hidden=True, batch_tokens=batch_tokens, part_samples=4)
    tables = extract_tables(POOLS["mixed"], lm, saes, tmp_path, settings=options)
    for name, layer in (("a", 0), ("b", 2)):
        expected = [
            hooked(lm, text.input_ids, layer)[text.scored].mean(0).numpy() if text.n_scored else 0.0
            for text in tokenize_samples(POOLS["mixed"], lm.tokenizer)
        ]
        found = tables[name].activations(hidden=True).hidden
        for row, mean in zip(found, expected, strict=True):
            np.testing.assert_allclose(row, mean, atol=1e-5)


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_only_the_chosen_role_is_scored(role):
    lm, sae = tiny_lm(), coordinate_sae()
    rows = extract_features(CHATS, lm, sae, settings=ExtractSettings(score=role))
    texts = tokenize_samples(CHATS, lm.tokenizer, score=role)
    assert rows.n_tokens.tolist() == [text.n_scored for text in texts]
    for row, text in enumerate(texts):
        entries = slice(*rows.row_starts[row : row + 2])
        assert text.scored[rows.positions[entries]].all()


@pytest.mark.parametrize("hidden", [False, True])
def test_a_killed_run_goes_on_behind_its_last_part(tmp_path, monkeypatch, hidden):
    lm, sae = tiny_lm(), random_sae()
    options = ExtractSettings(part_samples=4, hidden=hidden)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    extract_table(CHATS, lm, sae, whole, settings=options)
    with monkeypatch.context() as patch:
        count_reads(patch, fail_at=1)
        with pytest.raises(KeyboardInterrupt):
            extract_table(CHATS, lm, sae, killed, settings=options)
    assert not (killed / "manifest.json").exists()
    calls = count_reads(monkeypatch)
    extract_table(CHATS, lm, sae, killed, settings=options)
    assert calls == [4, 1]
    assert files(killed) == files(whole)
    assert len(list(whole.glob("hidden/*"))) == 3 * hidden


SMALL = ExtractSettings(batch_tokens=64, part_samples=9)
"""Several batches to a part."""


@pytest.mark.parametrize("hidden", [False, True])
def test_ctrl_c_inside_a_part_keeps_its_batches_and_says_how_many(tmp_path, monkeypatch, hidden):
    lm, sae, options = tiny_lm(), random_sae(), replace(SMALL, hidden=hidden)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    extract_table(CHATS, lm, sae, whole, settings=options)
    with monkeypatch.context() as patch:
        calls = count_reads(patch, fail_at=2)
        with pytest.raises(KeyboardInterrupt, match=r"^\d of 9 samples are saved; .* to resume"):
            extract_table(CHATS, lm, sae, stopped, settings=options)
    left = count_reads(monkeypatch)
    extract_table(CHATS, lm, sae, stopped, settings=options)
    assert sum(calls) + sum(left) == len(CHATS)
    assert files(stopped) == files(whole)


def test_a_killed_run_loses_only_what_came_after_the_last_save(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    lm, saes = tiny_lm(), {"a": random_sae(), "b": random_sae(seed=1)}
    with monkeypatch.context() as patch:
        patch.setattr(reading, "_SAVE_EVERY_S", 0.0)
        calls = count_reads(patch, fail_at=3, error=Killed)
        with pytest.raises(Killed):
            extract_tables(CHATS, lm, saes, tmp_path, settings=SMALL)
    left = count_reads(monkeypatch)
    extract_tables(CHATS, lm, saes, tmp_path, settings=SMALL)
    assert sum(calls) + sum(left) == len(CHATS)


def test_ctrl_c_before_the_first_batch_saves_nothing_and_says_so(tmp_path, monkeypatch):
    count_reads(monkeypatch, fail_at=0)
    with pytest.raises(KeyboardInterrupt, match="^0 of 9 samples are saved; .* to start again"):
        extract_table(CHATS, tiny_lm(), random_sae(), tmp_path)


def test_a_run_with_another_part_size_keeps_the_one_it_began_with(tmp_path, monkeypatch):
    lm, sae = tiny_lm(), random_sae()
    with monkeypatch.context() as patch:
        count_reads(patch, fail_at=1)
        with pytest.raises(KeyboardInterrupt):
            extract_table(CHATS, lm, sae, tmp_path, settings=ExtractSettings(part_samples=4))
    table = extract_table(CHATS, lm, sae, tmp_path, settings=ExtractSettings(part_samples=2))
    assert table.samples() == CHATS
    assert table.manifest.n_parts == 3


def test_samples_of_one_id_are_refused_before_they_are_read(tmp_path):
    with pytest.raises(DataError, match="2 samples have the id 's0', and a table tells them"):
        extract_table(
            [Sample("s0", text="a"), Sample("s0", text="b")],
            tiny_lm(),
            random_sae(),
            tmp_path / "t",
        )
    assert not (tmp_path / "t").exists()


def test_two_runs_do_not_write_into_one_table(tmp_path):
    lm, sae = tiny_lm(), random_sae()
    with hold_folder(tmp_path), pytest.raises(DataError, match="another run is writing into"):
        extract_table(CHATS, lm, sae, tmp_path)
    assert extract_table(CHATS, lm, sae, tmp_path).manifest.n_samples == len(CHATS)


def test_a_broken_part_of_a_table_is_read_again(tmp_path):
    extract_table(
        CHATS, tiny_lm(), random_sae(), tmp_path, settings=ExtractSettings(part_samples=3)
    )
    before = files(tmp_path)
    (tmp_path / "part-00001.parquet").write_bytes(b"junk")
    (tmp_path / "manifest.json").unlink()
    said = Said()
    extract_table(CHATS, tiny_lm(), random_sae(), tmp_path, progress=said)
    assert files(tmp_path) == before
    assert any("part-00001.parquet is broken" in line for line in said.lines)


def test_a_finished_table_is_not_extracted_again(tmp_path, monkeypatch):
    lm, sae = tiny_lm(), random_sae()
    extract_table(CHATS, lm, sae, tmp_path)
    calls = count_reads(monkeypatch)
    assert extract_table(CHATS, lm, sae, tmp_path).samples() == CHATS
    assert not calls


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": CHATS[::-1]},
        {"samples": CHATS[:-1]},
        {"sae": random_sae(seed=1)},
        {"lm": replace(tiny_lm(), content_hash="other")},
        {"settings": ExtractSettings(score="user")},
        {"settings": ExtractSettings(max_length=20)},
    ],
    ids=["order", "samples", "sae", "model", "score", "max_length"],
)
def test_a_folder_of_something_else_is_refused(tmp_path, changes):
    run = {"samples": CHATS, "lm": tiny_lm(), "sae": random_sae()}
    extract_table(folder=tmp_path, **run)
    with pytest.raises(DataError, match="holds a feature table of other samples, model, SAE or"):
        extract_table(folder=tmp_path, **{**run, **changes})


def test_samples_without_scored_tokens_have_empty_rows():
    rows = extract_features(EMPTY, tiny_lm(), random_sae())
    assert rows.row_starts.tolist() == [0, 0, 0]
    assert rows.n_tokens.tolist() == [0, 0]


def test_no_samples_give_an_empty_table(tmp_path):
    assert extract_features([], tiny_lm(), random_sae()).sample_ids == ()
    table = extract_table([], tiny_lm(), random_sae(), tmp_path)
    assert table.activations().row_starts.tolist() == [0]
    assert table.samples() == []


def test_truncated_samples_are_counted(tmp_path):
    options = ExtractSettings(max_length=40, part_samples=2)
    table = extract_table(CHATS, tiny_lm(), random_sae(), tmp_path, settings=options)
    texts = tokenize_samples(CHATS, tiny_lm().tokenizer, max_length=40)
    assert table.manifest.n_truncated == sum(t.n_truncated > 0 for t in texts) > 0


def test_what_the_template_does_not_show_is_counted(tmp_path):
    answer = Message("assistant", "", reasoning="why", tool_calls=(ToolCall("f", "{}"),))
    samples = [Sample("a", (Message("user", "ok"), answer)), Sample("b", text="")]
    table = extract_table(samples, tiny_lm(), random_sae(), tmp_path / "t")
    assert table.manifest.left_out == {"reasoning": 1, "no scored token": 1}


def test_cut_samples_and_the_rate_are_said():
    said = Said()
    options = ExtractSettings(max_length=40)
    extract_features(CHATS, tiny_lm(), random_sae(), settings=options, progress=said)
    assert "of 9 samples were cut at 40 tokens; raise --max-length" in said.lines[0]
    assert re.fullmatch(r"[\d,.]+ samples/s, [\d,]+ tokens/s", said.notes[-1])


# Gates and pools, several SAEs


@pytest.mark.parametrize("family", FAMILIES)
def test_the_relu_gate_keeps_every_positive_pre_activation(family):
    lm, sae = tiny_lm(family), random_sae("topk")
    rows = extract_features(CHATS, lm, sae, settings=ExtractSettings(gate="relu"))
    standard = random_sae("standard")
    assert_matches(rows, reference(lm, standard, CHATS))


def test_the_last_token_is_the_last_scored_one():
    lm, sae = tiny_lm(), random_sae("standard")
    rows = extract_features(CHATS, lm, sae, settings=ExtractSettings(pooling="last"))
    codes = reference(lm, sae, CHATS)
    for text, dense_codes in zip(tokenize_samples(CHATS, lm.tokenizer), codes, strict=True):
        dense_codes[: np.flatnonzero(text.scored)[-1]] = 0
    assert_matches(rows, codes)


def test_gate_and_pooling_are_recorded_and_tables_that_differ_do_not_mix(tmp_path):
    lm, sae = tiny_lm(), random_sae()
    table = extract_table(CHATS[:2], lm, sae, tmp_path / "max")
    for name, value in (("gate", "relu"), ("pooling", "mean")):
        options = ExtractSettings(**{name: value})
        other = extract_table(CHATS[:2], lm, sae, tmp_path / name, settings=options)
        assert getattr(other.manifest.source, name) == value
        with pytest.raises(MismatchError, match=f"{name} is .* in the first and {value}"):
            check_same_features(table, other)


def test_several_saes_share_a_pass_and_give_the_tables_of_each(tmp_path, monkeypatch):
    lm = tiny_lm()
    saes = {"a": random_sae("topk", layer=2), "b": random_sae("standard", layer=0, d_sae=30)}
    options = ExtractSettings(part_samples=4)
    for name, sae in saes.items():
        extract_table(CHATS, lm, sae, tmp_path / "one" / name, settings=options, sae_name=name)
    calls = count_reads(monkeypatch)
    tables = extract_tables(CHATS, lm, saes, tmp_path / "all", settings=options)
    assert calls == [4, 4, 1]
    for name, sae in saes.items():
        assert_matches(tables[name].activations(), reference(lm, sae, CHATS))
        single = open_table(tmp_path / "one" / name)
        assert tables[name].manifest == single.manifest
        assert tables[name].samples() == CHATS


def test_of_several_tables_only_what_is_missing_is_read(tmp_path, monkeypatch):
    lm, saes = tiny_lm(), {"a": random_sae(), "b": random_sae(seed=1)}
    extract_table(CHATS, lm, saes["a"], tmp_path / "a", sae_name="a")
    before = files(tmp_path / "a")
    asked = []
    pool = reading.pool_tokens
    monkeypatch.setattr(
        reading, "pool_tokens", lambda *a, sae, **o: asked.append(sae) or pool(*a, sae=sae, **o)
    )
    extract_tables(CHATS, lm, saes, tmp_path)
    assert set(asked) == {saes["b"]}
    assert files(tmp_path / "a") == before


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_an_sae_name_that_is_no_folder_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="cannot name a folder"):
        extract_tables(CHATS, tiny_lm(), {name: random_sae()}, tmp_path)


# Threads


@pytest.mark.parametrize("where", ["tokenize_samples", "write_part"])
def test_an_error_in_a_thread_ends_the_run(tmp_path, monkeypatch, where):
    def fail(*args, **options):
        raise SpaceError("no room")

    monkeypatch.setattr(work, where, fail)
    with pytest.raises(SpaceError, match="no room"):
        extract_table(CHATS, tiny_lm(), random_sae(), tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_texts_are_tokenised_one_part_ahead_and_no_more(tmp_path, monkeypatch):
    tokenized, ahead = [], []
    tokenize, read = work.tokenize_samples, work.read_activations

    def counted(samples, *args, **options):
        tokenized.append(len(samples))
        return tokenize(samples, *args, **options)

    def looked(*args, **options):
        rows = read(*args, **options)
        ahead.append(len(tokenized) - len(ahead))
        return rows

    monkeypatch.setattr(work, "tokenize_samples", counted)
    monkeypatch.setattr(work, "read_activations", looked)
    extract_table(
        CHATS, tiny_lm(), random_sae(), tmp_path, settings=ExtractSettings(part_samples=2)
    )
    assert max(ahead) <= 2
    assert tokenized == [2, 2, 2, 2, 1]


def test_finishing_reads_no_part(tmp_path, monkeypatch):
    monkeypatch.setattr("pyarrow.parquet.read_table", lambda *a, **o: pytest.fail("read"))
    options = ExtractSettings(part_samples=4)
    table = extract_table(CHATS, tiny_lm(), random_sae(), tmp_path, settings=options)
    assert table.manifest.n_samples == len(CHATS)


# Refusals


def test_an_sae_of_another_width_is_refused():
    with pytest.raises(MismatchError, match="width 8, but tiny llama has width 16 .*on gemma"):
        check_pair(tiny_lm(), random_sae(d_in=8, model_name="gemma"))


def test_an_sae_of_a_layer_that_the_model_lacks_is_refused():
    with pytest.raises(ModelError, match="tiny llama has the layers 0 to 2, not 3"):
        extract_features(CHATS, tiny_lm(), random_sae(layer=3))


def test_an_sae_of_other_weights_of_the_same_shape_is_refused(tmp_path):
    sae = load_sae(save_sae(random_sae(model_name="a", model_hash="x" * 64), tmp_path))
    with pytest.raises(MismatchError, match="trained on a xxxxxxxxxxxx, but tiny llama is llama"):
        extract_features(CHATS, tiny_lm(), sae)


@pytest.mark.parametrize(
    "values",
    [
        {"max_length": 1},
        {"max_length": 65_536},
        {"part_samples": 0},
        {"batch_tokens": 0},
    ],
)
def test_settings_outside_their_range_are_refused(values):
    with pytest.raises(DataError, match=str(*values.values())):
        ExtractSettings(**values)


def test_progress_counts_every_sample_once(tmp_path, monkeypatch):
    lm, sae, options = tiny_lm(), random_sae(), ExtractSettings(part_samples=4)
    done = Counter()

    class Counting(Silent):
        def task(self, name, total, unit):
            done["total"] += total
            return super().task(name, total, unit)

    monkeypatch.setattr(
        "facsynth.progress._SilentTask.advance", lambda self, n=1, note="": done.update(done=n)
    )
    extract_table(CHATS, lm, sae, tmp_path, settings=options, progress=Counting())
    assert done["done"] == done["total"] == len(CHATS)


MEMORY = """
import resource, sys
from tiny import chat, random_sae, tiny_lm
from facsynth.table.extract import extract_table
from facsynth.table.settings import ExtractSettings
n, folder = int(sys.argv[1]), sys.argv[2]
samples = [chat(f"c{i}", "the cat sat " * (1 + i % 5), "a red ball") for i in range(n)]
settings = ExtractSettings(part_samples=128)
table = extract_table(
    samples, tiny_lm(), random_sae("standard", d_sae=2048), folder, settings=settings
)
print(table.manifest.n_entries, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    found = []
    for n in (512, 3072):
        command = [sys.executable, "-c", MEMORY, str(n), str(tmp_path / str(n))]
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
        found.append([float(word) for word in done.stdout.split()])
    (few, small), (many, large) = found
    mebibytes_if_held = 10 * (many - few) / 2**20
    assert mebibytes_if_held > 40
    assert large - small < mebibytes_if_held / 2
