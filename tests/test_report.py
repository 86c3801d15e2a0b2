"""What a report says about tables, and that texts cannot act in its page."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner

from activations import make_activations, write_table
from facsynth.cli.group import main
from facsynth.coverage.measure import measure_coverage
from facsynth.errors import DataError, MismatchError
from facsynth.records import Sample
from facsynth.report.collect import make_report
from facsynth.report.data import Lane, Panel, Report
from facsynth.report.experiment import report_experiment
from facsynth.report.layout import lay_out
from facsynth.report.links import feature_link
from facsynth.report.page import write_report
from facsynth.report.sets import Reader
from facsynth.report.settings import ReportSettings
from facsynth.report.sources import find_reader, inputs_of_tables
from facsynth.report.svg import Series, line_chart
from facsynth.report.texts import digits
from facsynth.table.active import active_rows
from planted_report import (
    ANCHOR,
    MISSING,
    SEED,
    WRITTEN,
    hostile_report,
    page_data,
    pair_sample,
    planted_inputs,
    planted_report,
    reader,
    samples,
    tables,
)
from tiny_pair import planted_table, talk


class Elements(HTMLParser):
    """Start tags with their attributes, and the text outside scripts."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.scripts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        (self.scripts if self.cdata_elem in ("script", "style") else self.text).append(data)

    def named(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture
def written(tmp_path):
    def write(*reports):
        write_report(reports, tmp_path / "report.html")
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


def parsed(html):
    elements = Elements()
    elements.feed(html)
    elements.close()
    return elements


def by_id(report):
    return {one.feature_id: one for one in report.features}


def alone(samples, folder):
    """Inputs of one table of these samples."""
    return planted_inputs("anchor", tables={"anchor": planted_table(samples, folder / "t")})


def sample_of(report, sample_id):
    return next(one for one in report.samples if one.sample_id == sample_id)


def said(report, part):
    return "".join(report.texts[place].text for place in part.texts)


def test_status_tells_covered_filled_and_missing_features():
    statuses = {f: one.status for f, one in by_id(planted_report()).items()}
    assert statuses == {
        **dict.fromkeys([0, 1, 5, 8], "covered"),
        **dict.fromkeys([2, 7], "filled"),
        **dict.fromkeys([3, 4, 6], "missing"),
    }


def test_features_are_counted_in_every_set():
    assert by_id(planted_report())[0].counts == (3, 2, 1)


def test_histogram_holds_weak_and_strong_words():
    anchor, seed, _ = by_id(planted_report())[0].histogram
    assert anchor == (0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 2)  # 1.5 of 2 is in the ninth of 12 bins
    assert sum(seed) == 2


def test_every_token_of_a_span_is_painted_by_activation():
    report = planted_report()
    spans = by_id(report)[0].spans
    painted = {report.texts[span.text].text: span.paint for span in spans}
    assert painted["they liked the dog and the kitten again"] == "00000070"
    assert painted["we saw the cat near the old house today"] == "000900000"


def test_without_a_painter_the_peak_is_known_and_the_page_says_why():
    report = make_report(planted_inputs(paint=False))
    span = by_id(report)[2].spans[0]
    assert not span.paint
    assert report.texts[span.text].text.split()[span.peak] == "fish"
    assert "--paint" in report.unpainted


def test_a_text_is_on_the_page_once():
    texts = [one.text for one in planted_report().texts if one.lengths]
    assert sorted(texts) == sorted([*ANCHOR, *SEED, *WRITTEN])


def test_long_samples_bring_only_what_is_shown_of_them(tmp_path):
    words = " ".join(["table"] * 60 + ["cat"] + ["tree"] * 60)
    inputs = alone([talk("a", words)], tmp_path)
    settings = ReportSettings(context_tokens=2, max_samples=0)
    report = make_report(inputs, settings)
    assert [one.text for one in report.texts] == ["table table cat tree tree"]


def test_credits_of_a_written_sample_are_the_missing_features_it_activates():
    sample = sample_of(planted_report(), "synthetic-0")
    assert [(c.feature_id, c.activation) for c in sample.credits] == [(2, 2.0)]
    assert (sample.target, sample.facts[0]) == (2, ("step", "one"))


def test_seed_sample_that_covers_a_feature_alone_comes_first():
    seed = [one for one in planted_report().samples if one.kind == "seed"]
    assert seed[0].sample_id == "seed-2"  # alone with the sun
    assert seed[0].credits[0].feature_id == 5


def test_rejected_sample_keeps_its_reason_and_its_target():
    sample = planted_report().samples[-1]
    assert (sample.kind, sample.reason, sample.target) == ("rejected", "too short", 3)


def test_text_of_a_sample_is_shown_as_written(tmp_path):
    turns = [talk("a", "we saw  the cat\n\nhere!", "it was ?? there"), talk("b", "dog")]
    inputs = planted_inputs("anchor", tables={"anchor": planted_table(turns, tmp_path / "t")})
    report = make_report(inputs)
    shown = [said(report, part) for part in sample_of(report, "a").parts]
    assert shown == ["we saw  the cat\n\nhere!", "it was ?? there"]


def test_rejected_answer_of_a_pair_is_shown(tmp_path):
    pairs = [pair_sample("p", "hello", "the cat", "the dog"), talk("b", "dog")]
    inputs = planted_inputs("anchor", tables={"anchor": planted_table(pairs, tmp_path / "t")})
    report = make_report(inputs)
    parts = sample_of(report, "p").parts
    assert [(part.role, said(report, part)) for part in parts][-1] == ("rejected answer", "the dog")


def test_names_of_a_file_replace_those_from_peaks():
    misses = [{"sample_id": "x", "before": "a ", "peak": "trout", "after": "?", "activation": 0.0}]
    row = {
        "name": "water animals",
        "method": "llm",
        "doubtful": True,
        "fidelity": {"detection": {"balanced_accuracy": 0.6}},
        "near_misses": misses,
    }
    report = make_report(planted_inputs(explanations={2: row}))
    fish = by_id(report)[2]
    assert (fish.name, fish.method, fish.balanced_accuracy) == ("water animals", "llm", 0.6)
    assert fish.is_doubtful
    assert report.texts[fish.misses[0].text].text == "a trout?"


def test_features_that_a_judge_left_out_do_not_count():
    judged = {f: {"relevant": f != 8, "grade": "yes", "reason": "because"} for f in range(9)}
    report = make_report(planted_inputs(judgements=judged))
    assert by_id(report)[8].status == "uncounted"
    assert by_id(report)[2].reason == "because"
    assert report.features[-1].feature_id == 8
    assert "of the 8 features" in report.reading[0]


def test_what_is_not_on_the_page_is_counted():
    report = make_report(planted_inputs(), ReportSettings(max_features=6, max_samples=2))
    assert len(report.features) == 6
    assert report.left_out == {
        **{"missing features": 2, "filled features": 1},
        **{"anchor samples": 10, "seed samples": 3, "synthetic samples": 1},
    }


def test_fill_is_the_share_of_missing_features_that_written_samples_activate():
    panel = planted_report().panels[2]
    assert (panel.title, panel.lanes[0].value) == ("Fill", 2 / len(MISSING))
    assert panel.lanes[0].low < 2 / len(MISSING) < panel.lanes[0].high
    assert panel.lanes[1].kind == "control"


def test_reading_says_what_the_numbers_mean_and_what_to_do_next():
    meaning, advice = planted_report().reading
    assert "The seed activates 44% of the 9 features" in meaning
    assert "fill 2 of the 5 missing ones (40%)" in meaning
    assert "`fac export`" in advice
    alone = make_report(planted_inputs("anchor", "seed"))
    assert "`fac synthesize`" in alone.reading[1]


def test_measured_coverage_is_not_measured_again():
    before = json.loads(json.dumps(_coverage_row(0.123)))
    report = make_report(planted_inputs("anchor", "seed", before=before))
    assert report.panels[1].lanes[0].value == 0.123


def _coverage_row(fac):
    from facsynth.coverage.measure import measure_coverage

    pair = [tables()[kind].activations() for kind in ("anchor", "seed")]
    return measure_coverage(*pair).row() | {"fac": fac}


def test_one_table_alone_has_features_and_no_gaps():
    report = make_report(planted_inputs("anchor"))
    assert {one.status for one in report.features} == {"active"}
    assert report.reading[0].startswith("10 samples activate 9 of 9 features")
    assert report.panels[0].lanes[0].value == 1.0


def test_neighbours_and_topics_work_without_the_sae():
    inputs = planted_inputs().read_by(Reader(reader().tokenizer))
    report = make_report(inputs)
    near = by_id(report)[2].neighbours[0]
    assert near.cosine is None
    assert 0 < near.shared <= 1
    assert report.topics


def test_without_a_tokenizer_texts_are_shown_whole(tmp_path):
    rows = make_activations([{0: 2.0}, {1: 2.0}])
    write_table(tmp_path / "t", rows, [Sample("a", text="one"), Sample("b", text="two")])
    inputs = inputs_of_tables(tmp_path / "t")
    found = find_reader(inputs.tables["anchor"].manifest.source, ReportSettings())
    report = make_report(inputs.read_by(found))
    assert [said(report, one.parts[0]) for one in report.samples] == ["one", "two"]
    assert "the tokenizer is not here" in report.notes[0]


def test_reports_of_the_same_tables_are_the_same_page(tmp_path):
    for name in ("a", "b"):
        write_report(make_report(planted_inputs()), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_page_holds_every_feature_in_compressed_columns(tmp_path):
    write_report(planted_report(), tmp_path / "page.html")
    (data,) = page_data(tmp_path / "page.html")
    ids = np.cumsum(data["features"]["id"]).tolist()
    assert ids == [one.feature_id for one in planted_report().features]
    assert {len(column) for column in data["features"].values()} == {9}


def test_page_refers_to_nothing_outside_itself(written):
    tags = parsed(written(planted_report())).tags
    links = {attrs["href"] for _, attrs in tags if "href" in attrs}
    assert {link for link in links if not link.startswith("#")} == {"data:,"}
    bad = {"src", "srcset", "action", "style", "onclick", "onerror"}
    assert not any(bad & set(attrs) for _, attrs in tags)


def test_policy_allows_only_the_script_and_the_style_of_the_page(written):
    elements = parsed(written(planted_report()))
    (policy,) = [m["content"] for m in elements.named("meta") if "http-equiv" in m]
    style, _, script = elements.scripts
    for text in (style, script):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_hostile_texts_add_no_element_to_the_page(written):
    harmless, hostile = parsed(written(planted_report())), parsed(written(hostile_report()))
    assert not hostile.named("img")
    assert len(hostile.named("script")) == len(harmless.named("script")) == 2
    assert "".join(hostile.text).count("<img src=x") >= 4


def test_half_a_character_is_written_as_its_escape(written):
    assert "broken \\ud83d" in written(replace(planted_report(), title="broken \ud83d"))


def test_sensitive_pages_are_blurred_from_the_start(written):
    assert parsed(written(planted_report())).named("body") == [{}]
    blurred = written(replace(planted_report(), is_sensitive=True))
    assert parsed(blurred).named("body") == [{"class": "is-blurred"}]


def test_several_runs_stand_side_by_side(written):
    other = replace(planted_report(), title="Another")
    html = written(planted_report(), other)
    assert "2 runs side by side" in html
    assert [one["value"] for one in parsed(html).named("option")][:2] == ["0", "1"]
    assert html.count('<th scope="row">Closeness: seed</th>') == 1


def test_shares_stand_on_one_scale_and_distances_on_their_own(written):
    panel = Panel("Near", "hint", (Lane("a", 0.5), Lane("b", 0.25)), is_share=False)
    html = written(Report("t", ("m", "n"), panels=(panel,)))
    assert [one["cx"] for one in parsed(html).named("circle")] == ["86.22%", "43.61%"]


def test_values_of_a_chart_are_a_table_too():
    chart = planted_report().charts[0]
    assert chart.values.columns == ("threshold", "seed", "seed + synthetic")
    assert ("1", 4 / 9, 6 / 9) in chart.values.rows


def test_chart_escapes_names_and_draws_each_point():
    drawn = line_chart(
        [Series("<b>", "seed", [(0.0, 0.0), (2.0, 4.0)])], title="<t>", x_title="x", y_title="y"
    )
    assert "&lt;b&gt;" in drawn
    assert "<b>" not in drawn
    assert 'points="46.0,196.0 346.0,30.0"' in drawn


def test_digits_say_how_much_of_the_largest_activation():
    assert digits(np.array([0.0, 0.1, 1.0, 2.0]), 2.0) == "0159"
    assert digits(np.array([1.0]), 0.0) == ""


def test_tokens_are_counted_as_javascript_counts(tmp_path):
    inputs = alone([talk("a", "cat \U0001f431 dog"), talk("b", "dog")], tmp_path)
    text = make_report(inputs).texts[0]
    assert text.text == "cat \U0001f431 dog"
    assert text.lengths == (4, 3, 3)  # the emoji has two units, and each blank one


def test_map_puts_samples_of_a_kind_together():
    rng = np.random.default_rng(0)
    rows = [{int(f) + 20 * (i % 2): 2.0 for f in rng.choice(20, 6)} for i in range(60)]
    active = active_rows(make_activations(rows, n_features=40), threshold=1.0)
    samples_at, features_at = lay_out(active, np.arange(40), random_seed=0)
    apart = np.linalg.norm(samples_at[::2].mean(0) - samples_at[1::2].mean(0))
    assert apart > 2 * samples_at[::2].std(0).max()
    assert features_at.shape == (40, 2)
    assert 0 <= samples_at.min() <= samples_at.max() <= 1


def test_few_samples_have_no_map():
    active = active_rows(make_activations([{0: 2.0}, {1: 2.0}]), threshold=1.0)
    assert lay_out(active, np.arange(4), random_seed=0) is None


def experiment_row(arm, **changes):
    row = {"task": "topic", "backbone": "tiny", "view": "samples", "size": 24, "arm": arm}
    row |= {"score": 0.7, "difference": 0.1, "low": 0.05, "high": 0.15, "shuffled": 0.0}
    return {**row, "n_samples": 24, "tokens": 900, **changes}


BESIDES = {
    "spent": {"calls": 7},
    "notes": ["few seeds"],
    "threshold": 4.0,
    "threshold_rule": "the lowest with room",
}
"""What an experiment says besides its rows."""


def experiment(folder, **changes):
    rows = [
        experiment_row("seed", difference=None, low=None, high=None, tokens=0, n_samples=0),
        experiment_row("cover"),
        experiment_row("<b>worse</b>", difference=-0.1, low=-0.2, high=-0.01),
    ]
    result = {"experiment": "small", "reference": "seed", "shown": "One is better.", "rows": rows}
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps(result | BESIDES | changes))
    return folder


def test_experiment_shows_differences_and_what_a_score_costs(tmp_path):
    report = report_experiment(experiment(tmp_path / "x"))
    differences, by_samples, by_tokens = report.charts
    assert differences.values.rows == [
        ("cover", 0.1, 0.05, 0.15),
        ("<b>worse</b>", -0.1, -0.2, -0.01),
    ]
    assert 'class="dot better"' in differences.svg
    assert 'class="dot worse"' in differences.svg
    assert "<b>" not in differences.svg
    assert ("cover", 900.0, 0.7) in by_tokens.values.rows
    assert ("cover", 24.0, 0.7) in by_samples.values.rows
    assert "log axis" in by_samples.svg
    assert report.reading[0] == "One is better."


def test_an_arm_has_one_colour_in_all_charts_of_an_experiment(tmp_path):
    rows = [
        experiment_row("base", difference=None, low=None, high=None, tokens=0, n_samples=0),
        experiment_row("real", tokens=0),
        experiment_row("cover"),
        experiment_row("cover", size=48, n_samples=48, tokens=1800),
    ]
    report = report_experiment(experiment(tmp_path / "x", rows=rows))
    drawn = "".join(chart.svg for chart in report.charts)
    legend = re.findall(r'>([a-z]+)</text><circle class="dot (k\d)"', drawn)
    marked = re.findall(r'"dot (k\d)"[^>]*><text class="axis" x="22"[^>]*>(\w+)<', drawn)
    dots = {*legend, *((arm, kind) for kind, arm in marked)}
    assert dots == {("base", "k0"), ("real", "k1"), ("cover", "k2")}


def test_experiment_without_its_rows_is_one_clear_error(tmp_path):
    folder = experiment(tmp_path / "x", rows=[{"arm": "cover"}])
    with pytest.raises(DataError, match="is not the result of an experiment"):
        report_experiment(folder)


def test_command_writes_the_page_of_an_experiment_into_its_folder(tmp_path):
    folder = experiment(tmp_path / "x")
    done = CliRunner().invoke(main, ["report", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    assert "One is better." in (folder / "report.html").read_text()


def test_known_sae_links_to_neuronpedia_and_others_do_not():
    source = tables()["anchor"].manifest.source
    assert feature_link(source) == ""
    scope = replace(source, sae_name="fnlp/Llama3_1-8B-Base-LXR-8x/layer", layer=15)
    assert feature_link(scope).endswith("/llama3.1-8b/15-llamascope-res-32k/{id}")


def test_tables_of_other_features_are_an_error(tmp_path):
    write_table(tmp_path / "t", make_activations([{0: 2.0}]), samples("s", ["a"]))
    write_table(tmp_path / "u", make_activations([{0: 2.0}], n_features=5), samples("s", ["a"]))
    with pytest.raises(MismatchError):
        inputs_of_tables(tmp_path / "t", tmp_path / "u")


def test_without_a_threshold_the_page_has_the_one_that_coverage_chooses():
    anchor, seed = (tables()[kind].folder for kind in ("anchor", "seed"))
    found, chosen = inputs_of_tables(anchor, seed), measure_coverage(anchor, seed)
    assert found.threshold == chosen.threshold
    assert dict(found.facts)["Threshold δ"] == f"{chosen.threshold:g} ({chosen.threshold_rule})"


def test_written_samples_need_the_seed_they_were_written_for(tmp_path):
    with pytest.raises(DataError, match="--synthetic needs --seed"):
        inputs_of_tables(tmp_path / "t", synthetic=tmp_path / "u")


def test_command_writes_the_page_and_says_what_is_on_it(tmp_path):
    folders = [str(tables()[kind].folder) for kind in ("anchor", "seed", "synthetic")]
    options = zip(("--anchor", "--seed", "--synthetic"), folders, strict=True)
    page = tmp_path / "page.html"
    told = [word for pair in options for word in pair]
    done = CliRunner().invoke(main, ["report", *told, "-o", str(page), "--json"])
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    assert row["bytes"] == page.stat().st_size
    assert row["reports"][0]["n_samples"]["synthetic"] == len(WRITTEN)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ([], "fac report --anchor ANCHOR --seed SEED"),
        (["--seed", "b"], "fac report --anchor ANCHOR --seed b"),
        (["--synthetic", "c"], "fac report --anchor ANCHOR --seed SEED --synthetic c"),
        (["--anchor", "a", "--synthetic", "c"], "fac report --anchor a --seed SEED --synthetic c"),
        (["--relevance", __file__], f"fac report TABLE --relevance {__file__}"),
        (["a", "--seed", "b"], "fac report --anchor a --seed b"),
        (["a", "--anchor", "b"], "leave out one of them"),
    ],
)
def test_command_says_what_is_missing_with_the_command_that_mends_it(words, command):
    done = CliRunner().invoke(main, ["report", *words])
    assert done.exit_code == 2
    assert command in done.stderr


def test_command_takes_nothing_beside_a_run_that_the_run_has(tmp_path):
    run = experiment(tmp_path / "x")
    words = ["report", str(run), "--seed", "b", "--relevance", __file__, "--threshold", "2"]
    done = CliRunner().invoke(main, words)
    assert "leave out --seed, --relevance, --threshold" in done.stderr
    (tmp_path / "x" / "experiment.json").rename(tmp_path / "x" / "recipe.json")
    done = CliRunner().invoke(main, words[:2])
    assert "without a result yet" in done.stderr


def test_command_takes_the_names_of_the_features_of_one_table(tmp_path):
    (tmp_path / "names.jsonl").write_text('{"feature_id": 1, "name": "named by hand"}\n')
    page = tmp_path / "page.html"
    words = [str(tables()["anchor"].folder), "--explanations", str(tmp_path / "names.jsonl")]
    done = CliRunner().invoke(main, ["report", *words, "-o", str(page)])
    assert done.exit_code == 0, done.exception
    assert "named by hand" in str(page_data(page))


def test_records_of_a_report_load_no_drawing_library():
    heavy = "{'altair', 'vl_convert', 'jinja2', 'markupsafe'}"
    code = f"import sys, facsynth.report.page; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
