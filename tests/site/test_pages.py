"""The pages as files: every number without a script, nothing from elsewhere, foreign text as text."""

import gzip
import json
import re
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag
from xml.etree import ElementTree

import pytest

from harness.cli import main
from harness.errors import Status, UserError
from harness.site import plots
from harness.site.build import Built, build_site
from tests.site.roots import HOSTILE_REPLY, MEASURED, make


class Page(HTMLParser):
    """What a page loads and leads to, and its inline code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def values(self, name: str) -> list[str]:
        return [value for _, own in self.tags if (value := own.get(name)) is not None]


def pages(out: Path) -> dict[str, Page]:
    return {str(path.relative_to(out)): Page(path.read_text()) for path in sorted(out.rglob("*.html"))}


def test_every_link_leads_somewhere_within_the_site(site: tuple[Path, Built]) -> None:
    out, built = site
    found = pages(out)
    assert len(found) == built.pages > 20
    for name, page in found.items():
        for address in [*page.values("href"), *page.values("src")]:
            path, _ = urldefrag(address)
            assert "//" not in address and not address.startswith("/"), f"{name}: {address}"
            assert not path or (out / name).parent.joinpath(path).resolve().is_file(), f"{name}: {address}"


def test_no_page_has_code_or_style_of_its_own(site: tuple[Path, Built]) -> None:
    for name, page in pages(site[0]).items():
        assert not [own for tag, own in page.tags if tag == "style" or "style" in own], name
        assert not [own for tag, own in page.tags if any(key.startswith("on") for key in own)], name
        assert [own.get("src", "").split("/")[-1] for tag, own in page.tags if tag == "script"] == ["site.js"]
        assert "img" not in {tag for tag, _ in page.tags}, name
        (policy,) = [
            own["content"] for _, own in page.tags if own.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policy is not None and "default-src 'none'" in policy and "unsafe" not in policy


def test_foreign_text_is_text(site: tuple[Path, Built]) -> None:
    out, _ = site
    for path in out.rglob("*.html"):
        text = path.read_text()
        assert "<img src=x" not in text and "\u202e" not in text and "\x1b" not in text
    assert "<img src=x onerror=alert(1)>-moe" in Page((out / "index.html").read_text()).words


def test_every_headline_number_is_on_the_front_without_a_script(site: tuple[Path, Built]) -> None:
    out, _ = site
    words = " ".join(Page((out / "index.html").read_text()).words.split())
    rows = json.loads((out / "data/numbers.json").read_bytes())
    headlines = [row for row in rows if row["headline"] and row["value"] is not None]
    assert headlines
    for row in headlines:
        assert f"{100 * row['value']:.1f}%" in words
        assert f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]" in words
        assert f"n={row['n']}" in words


def test_attempts_are_there_to_be_read_and_closed_ones_are_hashes(site: tuple[Path, Built]) -> None:
    out, built = site
    listing = Page((out / "attempts.html").read_text())
    options = [own for tag, own in listing.tags if tag == "option" and "data-suite" in own]
    assert len(options) == 32 and built.attempts == 32 * 60 and built.shown == 16 * 60
    replies = set()
    for option in options:
        folder = out / "attempts" / str(option["value"])
        index = json.loads(gzip.decompress((folder / "index.json.gz").read_bytes()))
        assert len(index["samples"]) == 60
        if option["data-closed"]:
            assert sorted(path.name for path in folder.iterdir()) == ["index.json.gz"]
            assert all(re.fullmatch("#[0-9a-f]{16}", sample) for sample in index["samples"])
            continue
        views = json.loads(gzip.decompress((folder / "0.json.gz").read_bytes()))
        assert [(view["sample"], view["attempt"]) for view in views] == list(
            zip(index["samples"], index["attempts"], strict=True)
        )
        replies |= {step["pieces"][0]["text"] for view in views for step in view["steps"]}
    assert CLEANED in replies and not any("\u202e" in text for text in replies)


CLEANED = HOSTILE_REPLY.replace("\u202e", "").replace("\x1b[31m", "")


def test_scores_have_plain_names_headlines_first(site: tuple[Path, Built]) -> None:
    out, _ = site
    (index,) = [
        found
        for path in sorted(out.glob("attempts/*/index.json.gz"))[:40]
        if "targeted_asr" in (found := json.loads(gzip.decompress(path.read_bytes())))["values"]
    ][:1]
    assert list(index["named"]) == list(index["values"])
    assert index["named"]["targeted_asr"] == "Hijacked"
    assert next(iter(index["values"])) in {"benign_utility", "targeted_asr"}


def test_each_claim_has_what_these_runs_say_or_that_they_say_nothing(site: tuple[Path, Built]) -> None:
    words = " ".join(Page((site[0] / "claims.html").read_text()).words.split())
    gap, size = words.index("Models of one country are behind"), words.index("A bigger model is a better one")
    assert words.index("What these runs say") < gap < size
    assert re.search("ahead of|No clear difference between", words[gap:size])
    assert "nothing here is evidence for or against it" in words  # of chains of steps


def test_the_days_of_an_axis_are_firsts_of_months() -> None:
    days = [date(2024, 12, 26), date(2025, 9, 2)]
    axis = plots._day_axis([float(day.toordinal()) for day in days])
    assert [label for _, label in axis.ticks] == ["Oct 2024", "Jan 2025", "Apr 2025", "Jul 2025", "Oct 2025"]
    years = plots._day_axis([float(date(year, 5, 1).toordinal()) for year in (2021, 2026)])
    assert [label for _, label in years.ticks] == ["2020", "2022", "2024", "2026", "2028"]
    day = plots._day_axis([float(date(2025, 12, 31).toordinal())])
    assert [label for _, label in day.ticks] == ["Dec 2025", "Jan 2026"]


def test_a_plot_can_be_taken_away_and_needs_nothing_beside_it(site: tuple[Path, Built]) -> None:
    for path in sorted((site[0] / "plots").glob("*.svg")):
        root = ElementTree.fromstring(path.read_text())
        assert root.attrib["width"] == "640" and not root.findall(".//{*}a")
        assert root.findall(".//{*}path") and "href" not in path.read_text()


def test_what_each_judge_said_is_there_to_be_read_of_open_suites_alone(site: tuple[Path, Built]) -> None:
    out, _ = site
    said = []
    for shard in out.glob("attempts/*/[0-9]*.json.gz"):
        said += [view["votes"] for view in json.loads(gzip.decompress(shard.read_bytes())) if "votes" in view]
    assert (
        len(said) == 4 * 60
    )  # the questions of the one run that was judged; its agents' attempts are closed
    keen, worn = (
        {"judge": name, "asks": "Does it refuse?", "measured": text} for name, text in MEASURED.items()
    )
    keen |= {"verdict": "refusal"}
    worn |= {"verdict": None, "raw": "I"}
    assert all(
        votes
        == [keen | {"raw": f"Verdict: refusal. {CLEANED}"}, worn | {"failure": "engine_error: it ended"}]
        for votes in said
    )


def test_no_page_and_no_attempt_tells_where_files_lie_on_this_machine(site: tuple[Path, Built]) -> None:
    out, _ = site
    texts = [path.read_text() for path in out.rglob("*.html")]
    texts += [gzip.decompress(path.read_bytes()).decode() for path in out.rglob("*.gz")]
    assert any("config.yaml:1: key `models`" in text for text in texts)  # why prompts are not shown
    assert not any(str(out.parent) in text for text in texts)


def test_what_was_refused_is_said_with_the_reason(site: tuple[Path, Built]) -> None:
    out, built = site
    words = Page((out / "about.html").read_text()).words
    assert [said.split(":")[0] for said in built.refused] == ["broken", "changed"]
    assert "broken" in words and "its checksum is another one" in words


def test_the_same_runs_give_the_same_site_and_what_is_gone_is_removed(
    site: tuple[Path, Built], root: Path
) -> None:
    out, built = site
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "models" / "gone.html").write_text("")
    again = build_site(root, out, settings=root.parent / "site.yaml", store=root.parent / "store")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert again.models == built.models


def test_a_folder_of_something_else_is_not_written_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="is no site"):
        build_site(root, tmp_path, store=root.parent / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "root" / "one")
    out = str(tmp_path / "site")
    assert main(["site", str(tmp_path / "root"), "--out", out, "--attempts", "failures"]) == Status.DONE
    said = capsys.readouterr().out
    assert "4 models" in said and "of 1 runs" in said
    assert main(["site", str(tmp_path / "root"), "--out", out, "--attempts", "some"]) == Status.WRONG_INPUT
    assert "expected all, failures, or how many" in capsys.readouterr().err
