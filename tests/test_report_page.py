"""The page of a report in a real browser, from disk and without a network."""

import json
import shutil
from dataclasses import replace

import pytest

from facsynth.report.page import write_report
from planted_report import HOSTILE, hostile_report, planted_report

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    other = replace(planted_report(), title="Another run")
    made = {
        "plain": [planted_report()],
        "hostile": [hostile_report()],
        "sensitive": [replace(planted_report(), is_sensitive=True)],
        "two": [planted_report(), other],
    }
    for name, reports in made.items():
        write_report(reports, folder / f"{name}.html")
    return folder


@pytest.fixture
def visit(browser, pages):
    """Opens a page offline; in the end it must have asked for nothing and complained of nothing."""
    context = browser.new_context(offline=True, viewport={"width": 1300, "height": 900})
    asked, complaints = [], []

    def opened(name, address=""):
        page = context.new_page()
        url = (pages / f"{name}.html").as_uri()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"{url}{address}")
        page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    context.close()
    assert {url.split("#")[0].split("/")[-1].split(".")[-1] for url in asked} <= {"html"}
    assert complaints == []


def shown_ids(page):
    return [int(text) for text in page.locator("#feature-list .id").all_inner_texts()]


def test_every_view_opens_from_the_bar(visit):
    page = visit("plain")
    for view in ("Features", "Samples", "Map", "Overview"):
        page.get_by_role("link", name=view).first.click()
        assert page.locator("[aria-current=page]").inner_text().startswith(view)


def test_search_finds_words_of_names_and_spans_and_numbers(visit):
    page = visit("plain", "#features")
    page.fill("#feature-tools [name=q]", "BREAD morning")
    assert 3 in shown_ids(page)  # the bird took some bread this morning
    assert 0 not in shown_ids(page)
    page.fill("#feature-tools [name=q]", "7")
    assert shown_ids(page)[0] == 7


def test_filter_by_status_and_order_by_rarity(visit):
    page = visit("plain", "#features")
    page.select_option("#feature-tools [name=status]", "missing")
    assert set(shown_ids(page)) == {3, 4, 6}
    page.select_option("#feature-tools [name=sort]", "by number")
    assert shown_ids(page) == [3, 4, 6]
    assert "3 of 9" in page.inner_text("#feature-found")


def test_link_opens_a_feature_with_painted_spans(visit):
    page = visit("plain", "#feature=2")
    detail = page.locator("#feature-detail")
    assert "filled" in detail.inner_text()
    assert detail.locator(".spans mark.p9").first.inner_text().strip() == "fish"
    assert detail.locator("svg.bars").count() == 2  # nothing in the seed


def test_weak_tokens_are_paler_than_the_strongest(visit):
    page = visit("plain", "#sample=anchor-1&paint=0")
    mark = page.locator("#sample-detail mark")
    assert (mark.inner_text().strip(), mark.get_attribute("class")) == ("kitten", "p7")


def test_a_credit_paints_the_sample_for_its_feature(visit):
    page = visit("plain", "#sample=seed-0")
    page.get_by_role("button", name="Paint the text for feature 1").click()
    page.wait_for_function(
        "document.querySelector('#sample-detail mark').textContent.trim() == 'dog'"
    )
    assert page.url.endswith("paint=1")


def test_topic_of_the_overview_opens_its_features(visit):
    page = visit("plain")
    page.locator(".topics a").first.click()
    page.wait_for_selector("#feature-list .item")
    assert 0 < len(shown_ids(page)) < 9


def test_keys_move_through_the_list(visit):
    page = visit("plain", "#features")
    page.focus("#feature-list")
    first = shown_ids(page)[:3]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.url.endswith(f"#feature={first[2]}")
    assert page.locator("[role=option][aria-selected=true]").get_attribute("aria-posinset") == "3"


def test_region_of_the_map_filters_the_list(visit):
    page = visit("plain", "#map")
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 2)
    page.mouse.up()
    n = int(page.inner_text("#marked output").split()[0])
    assert 0 < n < 9
    page.click("#open-marked")
    assert page.inner_text("#feature-found").startswith(f"{n} of 9, marked on the map")


def test_map_has_a_table_that_marks_the_same(visit):
    page = visit("plain", "#map")
    page.click("#map-table summary")
    page.get_by_role("button", name="Mark row").first.click()
    assert page.is_visible("#marked")


def test_theme_can_be_chosen(visit):
    page = visit("plain")
    colour = "getComputedStyle(document.body).backgroundColor"
    page.click("#theme")  # auto, then dark
    dark = page.evaluate(colour)
    page.click("#theme")
    assert page.evaluate(colour) != dark == "rgb(19, 21, 23)"


def test_sensitive_texts_are_blurred_until_clicked(visit):
    page = visit("sensitive", "#feature=2")
    text = page.locator("#feature-detail .spans .t").first
    blurred = "element => getComputedStyle(element).filter"
    assert "blur" in text.evaluate(blurred)
    text.click()
    assert text.evaluate(blurred) == "none"
    page.click("#reveal")
    assert page.locator("#feature-list .t").first.evaluate(blurred) == "none"


def test_hostile_texts_are_shown_and_never_run(visit):
    page = visit("hostile", "#feature=2")
    assert "<img src=x onerror=alert(1)>" in page.inner_text("#feature-detail")
    for address in ("#overview", "#samples", f"#sample={'synthetic-0'}", "#map"):
        page.evaluate(f"location.hash = {address!r}")
        page.wait_for_timeout(50)
    assert page.title() != "owned"
    assert page.locator("img").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0


def test_control_and_direction_marks_are_made_visible(visit):
    page = visit("hostile", "#feature=2")
    shown = page.inner_text("#feature-detail h2")
    assert "⟨202E⟩evil⟨202C⟩␛[31mred␀" in shown
    assert HOSTILE[:20] in shown


def test_hostile_id_can_be_linked(visit):
    page = visit("hostile", "#samples")
    page.select_option("#sample-tools [name=kind]", "rejected")
    page.locator("#sample-list .item").first.click()
    assert "onerror" in page.inner_text("#sample-detail h2")


def test_long_line_is_shown_within_the_page(visit, pages):
    report = planted_report()
    texts = [replace(one, text="x" * 100_000, lengths=()) for one in report.texts[:1]]
    write_report(replace(report, texts=(*texts, *report.texts[1:])), pages / "long.html")
    page = visit("long", "#sample=anchor-0")
    wide = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(wide)


def test_listed_samples_are_downloaded_as_jsonl(visit, tmp_path):
    page = visit("plain", "#samples")
    page.select_option("#sample-tools [name=kind]", "synthetic")
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "samples.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert rows[0]["messages"] == [{"role": "user", "content": "we found a fish under the tree"}]
    assert len(rows) == 3


def test_another_run_can_be_chosen(visit):
    page = visit("two")
    assert page.locator("h2.title:visible").inner_text() == "Planted words"
    page.select_option("#run", "1")
    assert page.locator("h2.title:visible").inner_text() == "Another run"


@pytest.mark.parametrize("address", ["#overview", "#feature=2", "#sample=synthetic-0", "#map"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_checker_finds_no_serious_fault(visit, address, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = visit("plain", address)
    page.emulate_media(color_scheme=scheme)
    found = Axe().run(page).response["violations"]
    serious = [
        (one["id"], [node["html"][:120] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("address", ["#overview", "#features", "#feature=2", "#samples", "#map"])
def test_narrow_screen_needs_no_sideways_scrolling(visit, address):
    page = visit("plain", address)
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_printed_page_holds_the_overview_without_the_bar(visit):
    page = visit("plain")
    page.emulate_media(media="print")
    assert page.is_visible(".reading")
    assert not page.is_visible(".bar")
