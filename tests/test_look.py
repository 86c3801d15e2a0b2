"""A first look at a data set."""

import json

import pytest
from click.testing import CliRunner

from facsynth.cli import main
from facsynth.coverage.profile import profile_rows
from facsynth.data.write import sample_row, write_jsonl
from facsynth.understand.look import look_at
from facsynth.words import split_words
from tiny_pair import PLANTED, planted_pair, planted_sae, planted_table, save_pair, talk

CAT, DOG, SEA, SUN = PLANTED[0], PLANTED[1], PLANTED[4], PLANTED[5]
GENERAL = [talk(f"g{i}", f"we saw a {word} at {i}") for i, word in enumerate(PLANTED * 5)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A set about cats with dogs, beside general text about everything."""
    folder = tmp_path_factory.mktemp("look")
    general = planted_table(GENERAL, folder / "general")
    profile = profile_rows(general.activations(), general.manifest.source)
    texts = [f"we saw a {CAT} and my {DOG} at {i}" for i in range(8)] + [f"the {SEA} was here"]
    table = planted_table([talk(f"s{i}", t) for i, t in enumerate(texts)], folder / "table")
    decoder = planted_sae().directions
    return look_at(table, profile, planted_pair()[0].tokenizer, decoder)


def test_what_stands_out_is_a_topic_with_its_shares(found):
    (one,) = found.standouts
    assert set(one.topic.feature_ids) == {0, 1}
    assert (one.share, one.reference_share) == (8 / 9, 5 / 40)
    assert {CAT, DOG} <= set(split_words(one.topic.name))


def test_the_sentence_says_what_it_is_about_and_what_is_odd(found):
    assert found.sentence().startswith(f"It is about: {found.standouts[0].topic.name}.")
    assert "89% of questions begin alike" in found.sentence()


def test_the_row_is_json_with_the_coverage_of_general_text(found):
    row = json.loads(json.dumps(found.row()))
    assert row["coverage"]["reference"] is not None
    assert row["standouts"][0]["share"] == pytest.approx(8 / 9)
    assert row["oddities"][0]["n_all"] == 9


def test_one_command_leads_from_a_file_to_a_finding(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, sae = map(str, save_pair(tmp_path))
    write_jsonl(map(sample_row, GENERAL), tmp_path / "general.jsonl")
    asked = [talk(f"s{i}", f"we saw a {CAT} and my {DOG} at {i}") for i in range(8)]
    write_jsonl(map(sample_row, asked), tmp_path / "own.jsonl")
    run = CliRunner().invoke
    assert run(main, ["sae", "profile", sae, "general.jsonl", "--model", model]).exit_code == 0
    done = run(main, ["look", "own.jsonl", "--model", model, "--sae", sae])
    assert done.exit_code == 0, done.output
    assert "It is about:" in done.stdout
    assert "Next:" in done.stdout
    first, _, rest = done.stderr.partition("loading")
    assert "the middle question has" in first
    assert "8 of 8 questions begin alike" in first
    assert rest
    assert "8 samples are few" in done.stderr
    words = next(line for line in done.stdout.splitlines() if line.startswith("`fac filter"))
    filtered = run(main, words.split("`")[1].split()[1:])
    assert (filtered.exit_code, "s0: we saw" in filtered.output) == (0, True)
    assert (tmp_path / "looks" / "own" / "manifest.json").is_file()
