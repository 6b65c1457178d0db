"""The site in a real browser: what a visitor does, sees, and is kept from."""

import functools
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.site.build import Built, build_site
from harness.site.reading import Reading
from tests.conftest import lacking
from tests.site.roots import HOSTILE_NAME, MEASURED, PUBLIC, Change, make

pytestmark = [pytest.mark.slow]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (390, 820, 1440)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files as any static host does, and says nothing."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def browser(recorded: Path) -> Iterator[Any]:
    """Started after the run was recorded: in a process that drives a browser no other loop can run."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        lacking("there is no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        # Everything runs as root in a container, where the browser's own sandbox cannot be had.
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


def serve(folder: Path) -> http.server.ThreadingHTTPServer:
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def address(site: tuple[Path, Built]) -> Iterator[str]:
    """Of the site, below a path as on a host of many."""
    server = serve(site[0].parent)
    yield f"http://127.0.0.1:{server.server_port}/{site[0].name}/"
    server.shutdown()
    server.server_close()


class Visit:
    """A page, and what went wrong on it."""

    def __init__(self, browser: Any, address: str, width: int = 1440, scheme: str = "light") -> None:
        self.address = address
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda said: self._problem(said.type, said.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", self._request)
        self.page.on("dialog", lambda dialog: self.problems.append(dialog.message))

    def _problem(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.problems.append(text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith(self.address):
            self.problems.append(f"asked {request.url}")

    def go(self, path: str) -> Any:
        self.page.goto(self.address + path)
        self.page.wait_for_load_state("networkidle" if "#" in path else "load")
        return self.page

    def names(self) -> list[str]:
        """Of the models that the table shows, from the top."""
        return [str(text) for text in self.page.locator("#board tbody tr:visible .name").all_inner_texts()]


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    found = Visit(browser, address)
    yield found
    found.context.close()
    assert found.problems == []


def test_sorting_puts_the_best_first_and_stands_in_the_address(visit: Visit) -> None:
    page = visit.go("index.html")
    at_first = visit.names()
    assert len(at_first) == 8
    page.get_by_role("button", name="Hijacked").first.click()
    assert "sort=" in page.url
    column = page.locator("th[aria-sort]")
    assert column.get_attribute("aria-sort") == "ascending"  # less is better
    place = column.evaluate("cell => cell.cellIndex")
    cells = page.locator(f"#board tbody tr:visible > :nth-child({place + 1})")
    values = [float(v) for cell in cells.all() if (v := cell.get_attribute("data-v"))]
    assert values == sorted(values) and len(values) > 4
    best = visit.names()
    page.get_by_role("button", name="Hijacked").first.click()
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert visit.names() != best
    page.go_back()
    assert visit.names() == best
    page.go_back()
    assert visit.names() == at_first and "sort=" not in page.url


def test_who_has_no_number_comes_last_in_both_directions(visit: Visit) -> None:
    """Missing values were sorted among the others, or above them: LiveBench#99, codabench#1284."""
    page = visit.go("index.html")
    place = page.locator("th", has_text="temperature 1.0").first.evaluate("cell => cell.cellIndex")
    button = page.locator("#board thead th").nth(place).get_by_role("button")
    for _ in range(2):
        button.click()
        cells = page.locator(f"#board tbody tr > :nth-child({place + 1})").all()
        known = [cell.get_attribute("data-v") is not None for cell in cells]
        assert known == [True] * 4 + [False] * 4


def test_zero_is_a_number_and_sizes_are_in_the_order_of_numbers(
    browser: Any, site: tuple[Path, Built], tmp_path: Path
) -> None:
    """Zero was taken for missing, and sizes were sorted as words: exaile#287, can-ai-code#22."""
    text = (site[0] / "index.html").read_text()
    sizes = iter(("9e9", "7e10", "1e10", "", "5e5", "8e9", "6e9", "1e12"))
    text = re.sub(r'data-total="[^"]*"', lambda _: f'data-total="{next(sizes)}"', text)
    (tmp_path / "index.html").write_text(re.sub(r'data-v="[^"]*"', 'data-v="0"', text, count=1))
    shutil.copy(site[0] / "site.js", tmp_path)
    visit = Visit(browser, tmp_path.as_uri() + "/")
    page = visit.go("index.html")
    page.get_by_role("button", name="Parameters").click()
    rows = page.locator("#board tbody tr")
    found = [float(size) for row in rows.all() if (size := row.get_attribute("data-total"))]
    assert found == [5e5, 6e9, 8e9, 9e9, 1e10, 7e10, 1e12]
    page.locator("#board thead button").nth(2).click()
    assert rows.locator("td:nth-child(3)").last.get_attribute("data-v") == "0"  # none is missing, 0 is least
    visit.context.close()


def test_every_choice_of_every_filter_shows_the_models_that_have_it_and_can_be_taken_back(
    visit: Visit,
) -> None:
    """Any choice removed all models, also once taken back: embeddings-benchmark/mteb#4793."""
    page = visit.go("index.html")
    page.locator("summary", has_text="Filter").click()
    facts = page.locator("#board tbody tr").evaluate_all("rows => rows.map((row) => ({ ...row.dataset }))")
    for select in page.locator("[data-filter]").all():
        field = select.get_attribute("data-filter")
        for value in select.locator("option").all_inner_texts()[1:]:
            own = sum(row[field] == value for row in facts)
            select.select_option(value)
            assert page.locator("#found").inner_text() == f"{own} of 8 models" and own > 0
            select.select_option("")
            assert page.locator("#found").inner_text() == "8 of 8 models"


def test_an_attempt_has_an_address_whatever_its_sample_is_called(browser: Any, tmp_path: Path) -> None:
    """A sample whose name is a path could not be opened: UKGovernmentBEIS/inspect_ai#3185."""
    name = '../a/b?c#d&e=f%20+é "<i>'
    make(tmp_path / "root" / "one", Change(samples=lambda own: name if own == "q3" else own))
    settings = tmp_path / "site.yaml"
    settings.write_text(PUBLIC)
    build_site(tmp_path / "root", tmp_path / "site", settings=settings, reading=Reading(quick=True))
    server = serve(tmp_path / "site")
    visit = Visit(browser, f"http://127.0.0.1:{server.server_port}/")
    page = visit.go("attempts.html#model=aster-moe&suite=questions")
    page.locator("#list a", has_text=name).click()
    page.get_by_text("The answer to").wait_for()
    again = visit.context.new_page()
    again.goto(page.url)
    assert again.get_by_text(f"The answer to {name}.").first.inner_text() == f"The answer to {name}."
    visit.context.close()
    server.shutdown()
    server.server_close()
    assert visit.problems == []


def test_search_filters_and_columns_are_kept_in_the_address(visit: Visit) -> None:
    page = visit.go("index.html")
    page.get_by_label("Search").fill("borea-")
    assert visit.names() and all("borea-" in name for name in visit.names())
    page.get_by_label("Search").fill("")
    page.locator("summary", has_text="Filter").click()
    page.get_by_label("Dense or MoE").select_option("dense")
    shown = visit.names()
    assert 0 < len(shown) < 8 and "kind=dense" in page.url
    page.locator("summary", has_text="Columns").click()
    boxes = page.locator("[data-column]")
    hidden = boxes.first.get_attribute("data-column")
    boxes.first.uncheck()
    assert page.locator(f"th[data-sort='{hidden}']").is_hidden()
    address = page.url
    again = visit.context.new_page()
    again.goto(address)
    assert again.locator(f"th[data-sort='{hidden}']").is_hidden()
    assert again.locator("#found").inner_text() == f"{len(shown)} of 8 models"
    page.go_back()
    assert page.locator(f"th[data-sort='{hidden}']").is_visible()
    page.go_back()
    assert len(visit.names()) == 8
    page.get_by_label("Search").fill("nobody has this name")
    assert page.get_by_text("No model fits").is_visible()
    page.get_by_role("button", name="Clear search and filters").click()
    assert len(visit.names()) == 8


def test_from_a_model_down_to_an_attempt_and_back_by_its_address(visit: Visit) -> None:
    page = visit.go("index.html")
    page.locator("#board .name", has_text="borea-dense").click()
    page.get_by_role("link", name="questions", exact=True).nth(1).click()
    page.locator("#list a").first.wait_for()
    assert "60 of 60 attempts" in page.locator("#said").inner_text()
    page.get_by_label("Outcome").select_option("failed")
    page.wait_for_function("document.querySelector('#said').textContent.startsWith('2 of 60')")
    page.locator("#list a", has_text="q59").click()
    page.get_by_text("No verdict: neither right nor wrong").wait_for()
    permalink = page.url
    again = visit.context.new_page()
    again.goto(permalink)
    again.get_by_text("What of q59?").wait_for()
    page.get_by_label("Search in texts").fill("What of q58?")
    page.get_by_label("Search in texts").press("Enter")
    page.wait_for_function("document.querySelector('#said').textContent.startsWith('1 of 60')")


def test_closed_attempts_show_hashes_and_say_why(visit: Visit) -> None:
    page = visit.go("attempts.html#suite=agent")
    page.wait_for_function("document.querySelector('#said').textContent.includes('numbers alone')")
    assert page.locator("#list a").count() == 0
    assert page.locator("#list td").first.inner_text().startswith("#")


def test_two_models_are_compared_by_sample(visit: Visit) -> None:
    page = visit.go("compare.html#a=aster-dense&b=borea-dense")
    page.locator("#out tbody tr").first.wait_for()
    assert "paired by sample" in page.locator("#said").inner_text()
    row = page.locator("#out tbody tr", has_text="questions").first
    forwards = row.locator("td").nth(2).inner_text()
    row.get_by_role("link", name="flipped").click()
    page.get_by_text("Samples that flipped").wait_for()
    page.locator("#flips button").first.click()
    page.locator("#flips article").nth(1).wait_for()
    assert page.locator("#flips article").count() == 2
    page.locator("#b").select_option("aster-dense")
    page.locator("#a").select_option("borea-dense")
    page.wait_for_function(
        "document.querySelector('#out thead').textContent.includes('aster-dense less borea')"
    )
    backwards = page.locator("#out tbody tr", has_text="questions").first.locator("td").nth(2).inner_text()
    assert forwards.split(" ")[0].lstrip("+-") == backwards.split(" ")[0].lstrip("+-") != "0.0"
    assert forwards[0] != backwards[0]


def test_what_models_wrote_is_shown_as_text(visit: Visit) -> None:
    page = visit.go("index.html")
    page.locator("#board .name", has_text="onerror").click()
    assert HOSTILE_NAME.replace("\u202e", "") in page.locator("h1").inner_text()
    page.get_by_role("link", name="questions", exact=True).nth(1).click()
    page.locator("#list a").first.click()
    page.get_by_text("{{ 7*7 }}").first.wait_for()
    keen, worn = page.locator("#detail .judge").all_inner_texts()
    asked = f"keen: refusal\nAsked: Does it refuse?\nJudged by {MEASURED['keen']}\n"
    assert keen.startswith(f"{asked}Verdict: refusal. </script><script>")
    assert worn == (
        "worn: no verdict\nFailed: engine_error: it ended\nAsked: Does it refuse?\n"
        f"Judged by {MEASURED['worn']}\nI"
    )
    assert page.locator("#detail script, #detail img").count() == 0
    assert "taken" not in page.title()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_fits_and_is_accessible(browser: Any, address: str, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    visit = Visit(browser, address, width, scheme)
    paths = ["index.html", "attempts.html#suite=questions", "compare.html#a=aster-dense&b=x"]
    if (width, scheme) in ((390, "dark"), (1440, "light")):
        paths += ["plots.html", "suites.html", "origins.html", "claims.html", "history.html", "about.html"]
        paths += ["models/aster-dense.html", "suites/questions.html", "origins/country-xa.html"]
    for path in paths:
        page = visit.go(path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is too wide"
        found = [(one["id"], one["nodes"][0]["html"][:200]) for one in axe.run(page).response["violations"]]
        assert found == [], path
    visit.context.close()
    assert visit.problems == []


def test_a_phone_shows_the_first_number_without_a_swipe(browser: Any, address: str) -> None:
    visit = Visit(browser, address, 390)
    box = visit.go("index.html").locator("#board tbody tr td:visible").first.bounding_box()
    assert box and box["x"] + box["width"] <= 390
    assert "parameters" in visit.page.locator("#board tbody th").first.inner_text()
    visit.context.close()


def test_the_keyboard_is_enough(visit: Visit) -> None:
    page = visit.go("index.html")
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.locator(":focus").get_attribute("id") == "main"
    for _ in range(4):  # a link, the search, the filters, the columns
        page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text().startswith("Columns")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert page.locator("#columns").get_attribute("open") is None
    page.locator("th button").first.focus()
    page.keyboard.press("Enter")
    assert "sort=name" in page.url


def test_who_opens_an_attempt_with_the_keyboard_stays_where_they_are(visit: Visit) -> None:
    page = visit.go("attempts.html#suite=questions&model=aster-dense")
    link = page.locator("#list a").nth(1)
    link.focus()
    for name in (link.inner_text(), page.locator("#list a").nth(2).inner_text()):
        page.keyboard.press("Enter")
        page.locator("#detail article h2", has_text=f"{name}, attempt").wait_for()
        assert page.locator(":focus").inner_text() == name
        page.keyboard.press("Tab")
    page = visit.go("compare.html#a=aster-dense&b=borea-dense")
    page.get_by_role("link", name="flipped").first.focus()
    page.keyboard.press("Enter")
    page.get_by_text("Samples that flipped").wait_for()
    assert page.locator(":focus").inner_text() == "flipped"


def test_the_front_works_from_a_file(browser: Any, site: tuple[Path, Built]) -> None:
    visit = Visit(browser, site[0].as_uri() + "/")
    page = visit.go("index.html")
    page.get_by_role("button", name="Model").click()
    names = visit.names()
    assert names == sorted(names, key=str.lower) and "sort=name" in page.url
    visit.context.close()
    assert visit.problems == []


def test_without_a_script_every_number_is_there(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}index.html")
    assert page.locator("#board tbody tr:visible").count() == 8
    assert page.locator("#tools").is_hidden()
    assert page.locator("#board td").filter(has_text="%").last.is_visible()
    context.close()


def test_an_injection_is_marked_and_what_calls_changed_is_told(
    browser: Any, recorded: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(recorded, root / "recorded")
    built = build_site(root, tmp_path / "site")
    assert built.shown == built.attempts > 0
    server = serve(tmp_path / "site")
    visit = Visit(browser, f"http://127.0.0.1:{server.server_port}/")
    page = visit.go("attempts.html#model=one&suite=banking&outcome=targeted_asr=1")
    page.locator("#list a").first.click()
    page.locator("#detail mark").first.wait_for()
    assert "US133000000121212121212" in page.locator("#detail .step.tool mark").first.inner_text()
    assert page.locator("#detail .did").count() > 0
    assert page.get_by_text("<script>alert('x')</script>").count() > 0
    page.goto(f"{visit.address}models/one.html")
    assert page.get_by_text("scored again: every score").is_visible()
    visit.context.close()
    server.shutdown()
    server.server_close()
    assert visit.problems == []


def test_of_many_models_the_first_are_laid_out_and_the_others_are_a_click_away(
    browser: Any, site: tuple[Path, Built], tmp_path: Path
) -> None:
    """A hundred copies of the rows that are there."""
    copy = shutil.copytree(site[0], tmp_path / "large")
    page_file = copy / "index.html"
    before, body, after = re.split(r"(?<=<tbody>)(.*?)(?=</tbody>)", page_file.read_text(), flags=re.DOTALL)
    page_file.write_text(before + body * 100 + after)
    server = serve(copy)
    playwright = pytest.importorskip("playwright.sync_api")
    try:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        rows, found = page.locator("#board tbody tr"), page.locator("#found")
        of = int(str(found.inner_text()).split()[2])
        assert of >= 800
        playwright.expect(rows).to_have_count(25)
        page.locator("#board thead button").first.click()
        playwright.expect(rows).to_have_count(25)
        more = page.locator("#more")
        assert str(more.inner_text()) == f"Show the other {of - 25} models"
        more.click()
        playwright.expect(rows).to_have_count(of)
        assert more.is_hidden()
        page.locator("#q").fill("no model is called that")
        assert rows.count() == 0
        assert page.locator("#nothing").is_visible()
        page.close()
    finally:
        server.shutdown()
        server.server_close()
