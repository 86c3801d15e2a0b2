"""`fac labels`, `diff`, `overlap` and the reference profile, on tables of the planted pair."""

import json
import shutil
import zlib

import pytest
import vl_convert
from click.testing import CliRunner

from facsynth.cli import main
from facsynth.data.pairs import split_pairs
from facsynth.data.write import sample_row, write_jsonl
from facsynth.records import Message, Sample
from facsynth.report.plots import _packed, heat_map
from facsynth.table.settings import ExtractSettings
from facsynth.table.table import open_table
from tiny_pair import PLANTED, planted_table, save_pair


def fac(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def fac_json(*words):
    done = fac(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def fac_error(*words):
    done = fac(*words)
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    (line,) = [one for one in done.stderr.splitlines() if not one.startswith("loading ")]
    return line.removeprefix("Error: ")


def said(name, word, label=None, tail="and so it was"):
    return Sample(name, messages=(Message("user", f"we saw {word} {tail}"),), label=label)


def pair(name, good, bad):
    sides = ((Message("user", "hello"), Message("assistant", f"my {w} so")) for w in (good, bad))
    chosen, rejected = sides
    return Sample(name, messages=chosen, rejected=rejected)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Folder of tables: labelled sets, one with swapped labels, and preference pairs."""
    folder = tmp_path_factory.mktemp("tables")
    words = {"sunny": PLANTED[:4], "wet": PLANTED[4:]}
    for table, names in (("one", ("sunny", "wet")), ("swapped", ("wet", "sunny"))):
        samples = [
            said(f"{table}{i}-{w}", w, label)
            for label, name in zip(("sunny", "wet"), names, strict=True)
            for w in words[name]
            for i in range(6)
        ]
        planted_table(samples, folder / table)
    planted_table(
        [said(f"plain{i}-{w}", w) for i in range(10) for w in PLANTED[:3]], folder / "plain"
    )
    pairs = [pair(f"p{i}", PLANTED[i % 3], PLANTED[3 + i % 3]) for i in range(30)]
    write_jsonl(map(sample_row, pairs), folder / "pairs.jsonl")
    planted_table(list(split_pairs(pairs)), folder / "pairs")
    planted_table(pairs, folder / "chosen-only")
    return folder


def test_tables_of_two_precisions_compare_with_a_warning(tables, tmp_path):
    shutil.copytree(tables / "plain", tmp_path / "rounded")
    manifest = tmp_path / "rounded" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"dtype": "float32"', '"dtype": "mixed"'))
    words = ("coverage", "--anchor", tables / "one", "--seed")
    assert "extracted in float32 and" in fac(*words, tmp_path / "rounded").stderr
    assert "extracted in" not in fac(*words, tables / "plain").stderr


# fac labels


def test_labels_find_contradicting_sources(tables):
    row = fac_json("labels", tables / "one", tables / "swapped")
    assert row["cosines"][0][1] == pytest.approx(-1.0, abs=0.02)
    assert row["conflicts"][0].startswith("one and swapped contradict each other")
    assert [c["name"] for c in row["sets"][0]["classes"]] == ["sunny", "wet"]


def test_renaming_classes_lets_sources_agree(tables):
    names = ("--rename", "sunny=x", "--rename", "wet=y")
    row = fac_json("labels", tables / "one", "--anchor", tables / "one", *names)
    assert row["sets"][0]["agreement"]["cosine"] == pytest.approx(1.0)
    assert row["sets"][0]["classes"][0]["fac"] == 1.0


def test_labels_of_pairs_know_the_pairs(tables):
    row = fac_json("labels", tables / "pairs")["sets"][0]
    assert (row["n_pairs"], row["chosen_longer"]) == (30, 0.5)
    assert row["reliability"] > 0.9


def test_both_answers_are_extracted_with_their_labels(tables, tmp_path):
    model, sae = save_pair(tmp_path)
    options = ("--model", model, "--sae", sae, "--both-answers")
    row = fac_json("extract", tables / "pairs.jsonl", "-o", tmp_path / "t", *options)
    assert row["n_samples"] == 60
    assert fac_json("labels", tmp_path / "t")["sets"][0]["n_pairs"] == 30


def test_label_table_leads_with_closeness(tables):
    done = fac("labels", tables / "one", "--anchor", tables / "swapped")
    assert done.exit_code == 0
    out = done.stdout
    assert out.index("agreement with") < out.index("FAC") < out.index("samples")
    assert out.index("Hellinger") < out.index("FAC")


@pytest.mark.parametrize("ending", [pytest.param("html", marks=pytest.mark.slow), "svg", "png"])
def test_label_plot_is_written_without_network(tables, tmp_path, ending):
    path = tmp_path / f"plot.{ending}"
    done = fac("labels", tables / "one", tables / "swapped", "--plot", path)
    assert done.exit_code == 0, done.output
    assert path.stat().st_size > 1000
    if ending == "html":
        assert "<script src=" not in path.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plain",), "a direction needs two classes"),
        (("chosen-only",), "extract the data again with --both-answers"),
        (("one", "--rename", "x"), "not of the form OLD=NEW"),
        (("one", "--plot", "x.pdf"), "must end in one of .html, .svg, .png"),
        (("one", "pairs"), "has the classes"),
    ],
)
def test_labels_that_cannot_be_compared(tables, words, message):
    names = {"plain", "chosen-only", "one", "pairs"}
    assert message in fac_error("labels", *(tables / w if w in names else w for w in words))


# Hidden states


@pytest.fixture(scope="module")
def hidden(tmp_path_factory, tables):
    """The tables `one`, `swapped` and `pairs` with hidden states."""
    folder = tmp_path_factory.mktemp("hidden")
    for name in ("one", "swapped", "pairs"):
        samples = open_table(tables / name).samples()
        planted_table(samples, folder / name, settings=ExtractSettings(hidden=True))
    return folder


def test_extract_keeps_hidden_states_when_asked(tables, tmp_path):
    model, sae = save_pair(tmp_path)
    options = ("--model", model, "--sae", sae, "--hidden")
    row = fac_json("extract", tables / "pairs.jsonl", "-o", tmp_path / "t", *options)
    assert row["source"]["hidden"]
    assert open_table(tmp_path / "t").activations(hidden=True).hidden.shape == (30, 64)


def test_coverage_shows_the_hidden_distance_before_fac(hidden, tables):
    pair = ("--anchor", hidden / "one", "--seed", hidden / "swapped")
    assert fac_json("coverage", *pair)["hidden"]["distance"] == pytest.approx(0.0, abs=1e-3)
    out = fac("coverage", *pair).stdout
    assert out.index("Hellinger") < out.index("mean hidden state") < out.index("FAC (1 best)")
    done = fac("coverage", "--anchor", hidden / "one", "--seed", tables / "swapped")
    assert "keeps no hidden states" in done.stderr
    assert "mean hidden state" not in done.stdout


def test_labels_agree_or_contradict_in_hidden_space(hidden):
    row = fac_json("labels", hidden / "one", hidden / "swapped", "--space", "hidden")
    assert row["cosines"][0][1] == pytest.approx(-1.0, abs=0.02)
    assert row["sets"][0]["reliability"] > 0.8
    out = fac("labels", hidden / "one", hidden / "swapped", "--space", "hidden").stdout
    assert "cosine, mean hidden states" in out


def test_hidden_labels_of_a_table_without_them_say_how_to_get_them(tables):
    line = fac_error("labels", tables / "one", "--space", "hidden")
    assert "one: the table keeps no hidden states; extract the data again" in line


def test_select_chooses_in_hidden_space(hidden, tables):
    options = ("--budget", 8, "--objective", "representative", "--space", "hidden")
    row = fac_json("select", hidden / "one", *options)
    assert row["selection"]["hidden_distance"] <= row["random"]["hidden_distance"]["low"]
    assert "closeness: shift" in fac("select", hidden / "one", *options).stdout
    assert "keeps no hidden states" in fac_error("select", tables / "one", *options)


def test_png_is_packed_better_with_the_same_pixels():
    chart = heat_map([[1.0, 0.5], [0.5, 1.0]], ["a", "b"], title="t", row_title="", column_title="")
    loose = vl_convert.vegalite_to_png(chart, scale=2.0)
    packed = _packed(loose)
    assert len(packed) < 0.5 * len(loose)
    assert packed[:33] == loose[:33]  # signature and header with its checksum
    assert packed[-12:] == loose[-12:]
    start = packed.index(b"IDAT")
    size = int.from_bytes(packed[start - 4 : start], "big")
    width, height = (int.from_bytes(packed[i : i + 4], "big") for i in (16, 20))
    assert len(zlib.decompress(packed[start + 4 : start + 4 + size])) == height * (4 * width + 1)
    assert _packed(packed) == packed


# fac diff


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_pair(tmp_path_factory.mktemp("pair"))[0]


def test_diff_names_what_is_more_on_either_side(tables, model):
    row = fac_json("diff", tables / "plain", tables / "one", "--model", model, "--fdr", "0.2")
    assert {one["name"].split(", ")[0] for one in row["more_in_a"]} == set(PLANTED[:3])
    assert "«cat»" in row["more_in_a"][0]["example"]
    assert {one["feature_id"] for one in row["more_in_b"]} <= {3, 4, 5, 6, 7}
    assert row["n_different"] == len(row["more_in_a"]) + len(row["more_in_b"])


def test_diff_of_a_set_with_itself_is_empty_and_says_so(tables):
    done = fac("diff", tables / "one", tables / "one")
    assert "0 of 8 features differ" in done.stdout
    assert "8 texts are in both sets" in done.stderr
    assert "copies within their set" in done.stderr


def test_diff_table_shows_effect_and_q(tables, model):
    done = fac("diff", tables / "plain", tables / "one", "--model", model, "--length", "none")
    assert done.exit_code == 0, done.output
    assert "log odds" in done.stdout
    assert "More in B" in done.stdout


# fac overlap


def test_overlap_is_asymmetric_with_matched_parts_beside(tables, tmp_path):
    plot = tmp_path / "overlap.svg"
    row = fac_json("overlap", tables / "plain", tables / "one", "--plot", plot)
    assert row["shares"] == [[1.0, 1.0], [0.375, 1.0]]
    assert row["matched"]["n_samples"] == 15
    assert row["sets"][0]["needed"][-1] == {"share": 1.0, "greedy": 3, "random": 20}
    assert plot.read_text().startswith("<svg")


def test_sets_in_folders_of_one_name_have_names_of_their_own(tables, tmp_path):
    copies = [tmp_path / side / "table" for side in "ab"]
    for copy in copies:
        shutil.copytree(tables / "plain", copy)
    assert fac_json("overlap", *copies)["names"] == ["a/table", "b/table"]
    assert fac_json("overlap", copies[0], copies[0])["names"] == ["table", "table (2)"]


def test_overlap_tables_for_people(tables):
    done = fac("overlap", tables / "plain", tables / "one")
    assert done.exit_code == 0, done.output
    assert "matched lengths" in done.stdout
    assert "Redundancy" in done.stdout
    assert "15 samples only" in done.stderr


# fac coverage: controls, plot, reference


def test_controls_show_classes_richness_and_shifts(tables, tmp_path):
    plot = tmp_path / "curve.svg"
    pair = ("--anchor", tables / "one", "--seed", tables / "plain")
    done = fac("coverage", *pair, "--controls", "--plot", plot)
    assert done.exit_code == 0, done.output
    order = ["closeness", "FAC (1 best)", "missing", "samples, seed", "Richness", "each class"]
    places = [done.stdout.index(words) for words in order]
    assert places == sorted(places)
    assert plot.read_text().startswith("<svg")
    row = fac_json("coverage", *pair, "--controls")
    assert [(c["label"], c["fac"]) for c in row["by_class"]] == [("sunny", 0.75), ("wet", 0.0)]
    assert row["curves"]["seed"][-1]["n_samples"] == 60


def test_controls_name_what_fires_too_much_and_too_little(tables, model):
    pair = ("--anchor", tables / "one", "--seed", tables / "plain", "--model", model)
    shifts = fac_json("coverage", *pair, "--controls")["representativeness"]
    assert shifts["over_fired"][0]["name"] == PLANTED[shifts["over_fired"][0]["feature_id"]]
    assert shifts["under_fired"][0]["name"] == PLANTED[shifts["under_fired"][0]["feature_id"]]
    assert PLANTED[0] in fac("coverage", *pair, "--controls").stdout


def test_controls_without_the_model_say_why_there_are_no_names(tables):
    pair = ("--anchor", tables / "one", "--seed", tables / "plain")
    done = fac("coverage", *pair, "--controls")
    assert "no names" in done.stderr
    assert "files that only a table names are not opened" in done.stderr
    assert "no names" not in fac("coverage", *pair, "--controls", "--no-spans").stderr


def test_coverage_against_the_profile_beside_the_sae(tables, tmp_path):
    model, sae = save_pair(tmp_path)
    words = [said(f"r{i}", w) for i, w in enumerate(PLANTED * 5)]
    write_jsonl(map(sample_row, words), tmp_path / "general.jsonl")
    write_jsonl(map(sample_row, words[:4]), tmp_path / "seed.jsonl")
    row = fac_json("sae", "profile", sae, tmp_path / "general.jsonl", "--model", model)
    assert (row["n_samples"], row["n_fired"]) == (40, 8)
    pair, table = ("--model", model, "--sae", sae), tmp_path / "t"
    fac_json("extract", tmp_path / "seed.jsonl", "-o", table, *pair)
    missing = tmp_path / "missing.jsonl"
    row = fac_json(
        "coverage", "--anchor", sae / "reference.npz", "--seed", table, "--missing", missing
    )
    assert (row["fac"], row["n_missing"], row["n_samples"]["anchor"]) == (0.5, 4, 40)
    rows = [json.loads(line) for line in missing.read_text().splitlines()]
    assert {one["feature_id"] for one in rows} == {4, 5, 6, 7}
    done = fac("coverage", "--anchor", sae / "reference.npz", "--seed", table, "--controls")
    assert done.exit_code == 0, done.output
    assert "general text, not your domain" in done.stderr
    other = fac_error("coverage", "--anchor", sae / "reference.npz", "--seed", tables / "one")
    assert "do not compare" in other


def test_a_profile_is_not_read_from_where_only_a_table_says(tables):
    line = fac_error("coverage", "--anchor", "reference", "--seed", tables / "one")
    assert "`reference` is the profile of the embedded SAE" in line


def test_profile_is_counted_from_a_table_without_reading_again(tables, tmp_path):
    model, sae = save_pair(tmp_path)
    write_jsonl((sample_row(said(f"{w}", w)) for w in PLANTED[:3]), tmp_path / "text.jsonl")
    table = tmp_path / "t"
    fac_json("extract", tmp_path / "text.jsonl", "-o", table, "--model", model, "--sae", sae)
    row = fac_json("sae", "profile", sae, table, "--note", "plain")
    assert (row["n_samples"], row["n_fired"]) == (3, 3)
    row = fac_json("coverage", "--anchor", sae / "reference.npz", "--seed", table)
    assert (row["fac"], row["reference"]) == (1.0, "plain")
    assert "was extracted with SAE" in fac_error("sae", "profile", sae, tables / "plain")


def test_sae_without_a_profile_says_how_to_make_one(tables, tmp_path):
    model, sae = save_pair(tmp_path)
    write_jsonl([sample_row(said("a", "cat"))], tmp_path / "seed.jsonl")
    pair = ("--model", model, "--sae", sae)
    fac_json("extract", tmp_path / "seed.jsonl", "-o", tmp_path / "t", *pair)
    line = fac_error("coverage", "--anchor", "reference", "--seed", tmp_path / "t")
    assert "fac sae profile SAE DATA" in line


# Bad input


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Tables of nothing but empty texts, one sample, copies, and samples that activate nothing."""
    folder = tmp_path_factory.mktemp("odd")
    sets = {
        "empty": [Sample(f"e{i}", text="") for i in range(3)],
        "one": [said("s0", "cat")],
        "copies": [said(f"c{i}", "cat") for i in range(12)],
        "silent": [Sample(f"q{i}", text="we saw it again") for i in range(3)],
    }
    for name, samples in sets.items():
        planted_table(samples, folder / name)
        write_jsonl(map(sample_row, samples), folder / f"{name}.jsonl")
    return folder


@pytest.mark.parametrize("name", ["empty", "one", "copies", "silent"])
@pytest.mark.parametrize(
    "words",
    [
        ("coverage", "--anchor", "{plain}", "--seed", "{odd}", "--controls"),
        ("coverage", "--anchor", "{odd}", "--seed", "{plain}", "--controls"),
        ("diversity", "{odd}"),
        ("diversity", "{odd}.jsonl"),
        ("diff", "{odd}", "{plain}"),
        ("overlap", "{odd}", "{plain}"),
        ("overlap", "{odd}"),
        ("labels", "{odd}"),
        ("select", "{odd}", "--budget", "99"),
        ("select", "{odd}", "--budget", "2", "--objective", "representative", "--quota", "none"),
        ("select", "{plain}", "--anchor", "{odd}", "--budget", "2"),
    ],
    ids=lambda words: " ".join(words),
)
def test_odd_input_has_a_sensible_answer_or_one_clear_line(tables, odd, words, name):
    given = [w.format(odd=odd / name, plain=tables / "plain") for w in words]
    done = fac(*given)
    assert done.exit_code in (0, 1), done.output
    if done.exit_code:
        assert (done.stdout, done.exc_info[0]) == ("", SystemExit)
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert len(line) > 40
        assert "nan" not in line
    else:
        assert "nan" not in done.stdout.split()
