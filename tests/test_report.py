"""The HTML page: what it shows, and that texts from data sets and models cannot act in it."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest

from activations import make_activations
from facsynth.coverage.measure import measure_coverage
from facsynth.coverage.settings import CoverageSettings
from facsynth.errors import DataError, MismatchError
from facsynth.records import Message, Span
from facsynth.report import page as page_module
from facsynth.report.charts import accumulation_chart, controls_chart, coverage_curve_chart
from facsynth.report.page import (
    FeatureRow,
    NeighbourRow,
    Report,
    SampleRow,
    TopicRow,
    write_report,
)

HOSTILE = (
    "</script></title></textarea>--><script>document.title='owned'</script><img src=x>\"'&\u2028"
)
ARXIV = "https://arxiv.org/abs/2602.10388"
ANCHOR = [{0: 2.0, 1: 2.0}, {1: 3.0, 2: 2.0}, {3: 1.5}, {4: 4.0, 5: 2.0}]


class Elements(HTMLParser):
    """Start tags with their attributes, and the text inside each script."""

    def __init__(self):
        super().__init__()
        self.tags, self.scripts, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem is None:
            self.text.append(data)

    def named(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@cache
def row(n_seed, threshold=1.0):
    """Coverage of the first samples of the anchor; six of eight features are relevant."""
    tables = [make_activations(ANCHOR[:n], n_features=8) for n in (len(ANCHOR), n_seed)]
    relevant = np.arange(8) < 6
    settings = CoverageSettings(threshold=threshold, resamples=20)
    measured = measure_coverage(*tables, relevant=relevant, settings=settings)
    return json.loads(json.dumps(measured.row()))


def feature(feature_id, name="plants", status="filled", spans=()):
    return FeatureRow(feature_id, name, status, 7, 6.25, 1, spans)


def sample(number=0, text="Hi", credited=((3, 1.5),), target=3):
    messages = (Message("user", text), Message("assistant", text))
    return SampleRow(f"syn-{number}", messages, target, credited, "one", 1, "writer")


def make_report(**changes):
    rounds = ({"round": 1, "n_candidates": 9, "n_kept": 2, "n_covered": 4, "fac": 4 / 6},)
    report = Report(
        title="Coverage of tickets",
        facts=(("model", "tiny"),),
        before=row(2),
        after=row(3),
        features=(feature(3), feature(4, "dates", "missing")),
        samples=(sample(),),
        outcomes=(("candidates written", 9),),
        rounds=rounds,
    )
    return replace(report, **changes)


@pytest.fixture(scope="module")
def render(tmp_path_factory):
    def rendered(**changes):
        path = tmp_path_factory.mktemp("report") / "report.html"
        write_report(make_report(**changes), path)
        return path.read_text(encoding="utf-8")

    return rendered


def parsed(html):
    elements = Elements()
    elements.feed(html)
    elements.close()
    return elements


def text_of(html):
    return " ".join(" ".join(parsed(html).text).split())


def hostile_changes():
    span = Span(HOSTILE, HOSTILE, HOSTILE, HOSTILE, 2.0)
    messages = (Message(HOSTILE, HOSTILE),)
    near = (NeighbourRow(9, HOSTILE, "covered", 0.5, 0.0),)
    return {
        "title": HOSTILE,
        "facts": ((HOSTILE, HOSTILE),),
        "features": (replace(feature(3, HOSTILE, spans=(span,)), topic=0, neighbours=near),),
        "topics": (TopicRow(HOSTILE, 1, 0, 1),),
        "samples": (SampleRow(HOSTILE, messages, 3, ((3, 1.5),), HOSTILE, 1, HOSTILE),),
        "outcomes": ((HOSTILE, 1),),
        "features_file": HOSTILE,
        "samples_file": HOSTILE,
    }


def test_page_refers_to_nothing_outside_itself(render):
    elements = parsed(render())
    links = [attrs["href"] for _, attrs in elements.tags if "href" in attrs]
    assert {link for link in links if not link.startswith("#")} == {"data:,", ARXIV}
    assert not any({"src", "srcset", "action", "style"} & set(attrs) for _, attrs in elements.tags)


def test_closeness_leads_in_headline_and_panel_and_sizes_stand_beside(render):
    text = text_of(render())
    near = f"{row(2)['representativeness']['hellinger']:.3f}"
    panel = text[text.index("Closeness and coverage") :]
    order = [panel.index(words) for words in (near, "FAC ", " missing", "Size of the sets")]
    assert order == sorted(order)
    headline = text[text.index("The seed lies") :]
    assert headline.index(near) < headline.index("FAC is") < headline.index("Closeness and")


def test_hostile_texts_add_no_element(render):
    harmless, hostile = parsed(render()), parsed(render(**hostile_changes()))
    assert len(hostile.scripts) == len(harmless.scripts) == 6
    assert not hostile.named("img")
    assert "".join(hostile.text).count(HOSTILE) >= 16


def test_name_stands_with_what_its_test_gave(render):
    bad = replace(feature(3), balanced_accuracy=0.616, is_doubtful=True)
    text = text_of(render(features=(bad,)))
    assert "doubtful name" in text
    assert "balanced accuracy of 0.62" in text
    assert "doubtful name" not in text_of(render(features=(feature(3),)))


def test_features_stand_under_their_topic_and_the_others_after(render):
    topics = (TopicRow("space, planets", 3, 1, 40),)
    rows = (feature(5, "loose"), replace(feature(3), topic=0), replace(feature(4), topic=0))
    html = render(features=rows, topics=topics)
    text = text_of(html)
    assert "space, planets features: 3, filled: 1; anchor samples: 40 2 of 3 are on" in text
    at = [html.index(f'id="feature-{i}"') for i in (3, 4, 5)]
    assert at == sorted(at)
    assert html.index("Features without a topic") < at[2]


def test_neighbours_stand_with_their_state_and_link_to_those_on_the_page(render):
    near = (
        NeighbourRow(4, "dates", "missing", 0.25, 0.125),
        NeighbourRow(9, "years", "covered", 0.5, 0.0),
    )
    html = render(features=(replace(feature(3), neighbours=near), feature(4, "dates", "missing")))
    text = text_of(html)
    assert "dates still missing in 12% of the samples with either; cosine 0.25" in text
    assert "years covered in 0% of the samples with either; cosine 0.50" in text
    assert '<a href="#feature-4"' in html
    assert "#feature-9" not in html


def test_text_of_a_sample_is_shown_as_written(render):
    text = "Is 1 < 2 && \"a\" > 'b'?"
    assert text_of(render(samples=(sample(text=text),))).count(text) == 2


def test_chart_data_cannot_close_its_script(render, monkeypatch):
    names = ("controls", "curve", "accumulation", "rounds")
    monkeypatch.setattr(page_module, "_specs", lambda report: dict.fromkeys(names, [HOSTILE]))
    scripts = parsed(render()).scripts
    assert [json.loads(script) for script in scripts[:4]] == [[HOSTILE]] * 4
    assert len(scripts) == 6


def test_policy_allows_only_the_scripts_of_the_page(render):
    elements = parsed(render())
    (policy,) = [m["content"] for m in elements.named("meta") if "http-equiv" in m]
    for script in elements.scripts[-2:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy


def test_runtime_is_embedded_once(render):
    assert render().count("window.vegaEmbed") == 1


def test_headline_leads_with_closeness(render):
    page = render()
    assert page.index("from the anchor (Hellinger") < page.index("FAC is <b")


def test_headline_gives_counts_and_sizes(render):
    text = text_of(render())
    assert "activates 3 of the 6 relevant features that the anchor activates: FAC is 50.0%" in text
    assert "it activates 4 of them: 66.7%" in text
    assert "anchor 4 40 seed 2 20 seed + synthetic 3 30" in text


def test_controls_stand_before_the_curves(render):
    html = render()
    assert html.index("distance to the anchor") < html.index("Coverage curve")
    distance = row(3)["representativeness"]["hellinger"]
    assert f'<td class="number">{distance:.3f}</td>' in html


def test_warnings_are_shown_as_sentences(render):
    before = row(2) | {"controls": row(2)["controls"] | {"warnings": ["the anchor is small"]}}
    assert "The anchor is small." in text_of(render(before=before))


def test_absent_controls_are_said_to_be_absent(render):
    controls = row(2)["controls"] | {"frequency_matched": None, "frequency_ratio": None}
    bare = row(2) | {"controls": controls, "representativeness": None}
    text = text_of(render(before=bare, after=None))
    assert "Not available: every feature counts as relevant" in text


def test_report_without_synthesis_shows_the_seed_alone(render):
    bare = {"after": None, "features": (), "samples": (), "outcomes": (), "rounds": ()}
    html = render(**bare)
    assert "seed + synthetic</th>" not in html
    assert not {'id="features"', 'id="samples"', 'id="outcomes"', "spec-rounds"} & set(html.split())
    assert len(parsed(html).scripts) == 5


def test_credited_features_link_to_the_list(render):
    html = render(samples=(sample(credited=((3, 1.5), (77, 2.0))),))
    ids = {attrs["id"] for _, attrs in parsed(html).tags if "id" in attrs}
    links = {a["href"] for a in parsed(html).named("a")} - {ARXIV}
    assert links == {"#feature-3"}
    assert "feature-3" in ids
    assert "feature 77" in text_of(html)


def test_long_lists_are_cut_with_a_note(render, monkeypatch):
    monkeypatch.setattr(page_module, "MAX_FEATURES", 2)
    monkeypatch.setattr(page_module, "MAX_SAMPLES", 1)
    features = tuple(feature(i) for i in range(5))
    html = render(features=features, features_file="missing.jsonl", samples=(sample(), sample(1)))
    assert html.count('class="feature"') == 2
    assert html.count('class="sample"') == 1
    assert "first 2 of 5 missing features are shown; 3 are left out" in text_of(html)
    assert "All of them are in missing.jsonl" in text_of(html)


def test_long_messages_are_cut_with_a_note(render, monkeypatch):
    monkeypatch.setattr(page_module, "MAX_CHARACTERS", 10)
    text = text_of(render(samples=(sample(text="0123456789abc"),)))
    assert "abc" not in text
    assert "3 more characters are left out here." in text


@pytest.mark.parametrize(("token", "shown"), [(" tea", " tea"), ("\n", "↵"), (" ", "␣")])
def test_peak_token_is_marked_and_visible(render, token, shown):
    span = Span("a1", "a cup of", token, " please", 7.3)
    html = render(features=(feature(3, spans=(span,)),))
    assert f"a cup of<mark>{shown}</mark> please" in html
    assert '<span class="number">7.30</span>' in html


def test_half_a_character_is_written_as_its_escape(render):
    assert "broken \\ud83d text" in render(title="broken \ud83d text")


def test_texts_of_a_sensitive_run_are_blurred_until_a_button_is_pressed(render):
    html = render(is_sensitive=True, samples=(sample(text="a placeholder"),))
    page = parsed(html)
    assert page.named("body") == [{"class": "is-blurred"}]
    assert [b["id"] for b in page.named("button")] == ["reveal"]
    assert html.count("a placeholder") == 2
    assert not any("placeholder" in str(value) for _, a in page.tags for value in a.values())


def test_other_runs_are_not_blurred(render):
    page = parsed(render())
    assert page.named("body") == [{}]
    assert not page.named("button")


def test_every_measure_of_the_sweep_is_in_the_curve():
    spec = coverage_curve_chart(row(2), row(3))
    (values,) = (rows for rows in spec["datasets"].values() if len(rows) > 1)
    wanted = [p["fac"] for side in (row(2), row(3)) for p in side["sweep"] if not p["quantile"]]
    assert [v["fac"] for v in values] == [fac for fac in wanted if fac is not None]


def test_curve_leaves_out_undefined_points():
    sweep = [point | {"fac": None} for point in row(2)["sweep"][1:]]
    spec = coverage_curve_chart(row(2) | {"sweep": row(2)["sweep"][:1] + sweep}, None)
    assert json.dumps(spec).count('"n_covered":') == 1


def test_accumulation_meets_the_anchor_at_the_size_of_the_seed():
    text = json.dumps(accumulation_chart(row(2), None))
    at_equal = row(2)["richness"]["anchor_at_equal_samples"]
    point = {"set": "anchor", "n_samples": 2, "n_features": at_equal}
    assert json.dumps(point) in text


def test_controls_chart_leaves_out_an_absent_control():
    controls = row(2)["controls"] | {"frequency_matched": None}
    text = json.dumps(controls_chart(row(2) | {"controls": controls}, None))
    assert "length-matched anchor subset" in text
    assert "frequency-matched" not in text


def test_incomparable_coverages_are_an_error():
    with pytest.raises(MismatchError, match=r"threshold is 1.0 before and 0.5 after"):
        make_report(after=row(3, threshold=0.5))


def test_row_without_controls_is_an_error():
    naked = {key: value for key, value in row(2).items() if key != "controls"}
    with pytest.raises(DataError, match="before of the report has no controls"):
        make_report(before=naked)


def test_import_loads_no_drawing_library():
    heavy = "{'altair', 'vl_convert', 'jinja2', 'markupsafe'}"
    code = f"import sys, facsynth.report.page; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_browser_draws_the_charts_and_runs_no_hostile_script(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no Chromium on the PATH")
    write_report(make_report(**hostile_changes()), tmp_path / "report.html")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000"]
    command = [chromium, *options, "--dump-dom", (tmp_path / "report.html").as_uri()]
    dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=90).stdout
    assert len(parsed(dom).named("svg")) == 4
    assert "could not be drawn" not in text_of(dom)
    assert "<title>owned</title>" not in dom
