"""By how much origins differ between two kinds of requests, on the same requests."""

import json
import random

import msgspec
import pytest

from harness.analysis.build import build_scorecards
from harness.analysis.claims import Claims, make_claims
from harness.analysis.claims.contrasts import ContrastClaim
from harness.reports.claims_text import render_claims
from harness.types import Metric, Record
from tests.analysis.synthetic import cell, record, synthetic_run, tables

MANIFEST = synthetic_run()[0]
KINDS = ("china", "zh_china", "us")
METRICS = tuple(
    Metric(
        name=f"complete{f':{kind}' if kind else ''}",
        higher_is_better=True,
        kind="rate",
        bounds=(0.0, 1.0),
        headline=not kind,
        where={"table": kind} if kind else {},
        judged=("complete",),
        contrast="table" if kind else "",
    )
    for kind in ("", *KINDS)
)


def claim(rates: dict[str, dict[str, float]], n: int, seed: int, missing: int = 0) -> Claims:
    """Of models that meet each request of a kind by a share, drawn around the request's own ease.

    Args:
        rates: model -> kind -> share of requests that it meets.
        n: requests of each kind; those on China are the same in both languages.
        seed: of the draws.
        missing: requests about the US that the last model has no measurement of.
    """
    draw = random.Random(seed)
    manifest = MANIFEST
    ease = {(kind, i): draw.random() for kind in ("china", "us") for i in range(n)}
    cells, records = {}, {}
    for name, of_kind in rates.items():
        entry = cell(name, "asked", METRICS, n * len(KINDS))
        cells[entry.key] = entry
        found: list[Record] = []
        for kind, share in of_kind.items():
            for i in range(n):
                if kind == "us" and name == list(rates)[-1] and i < missing:
                    continue
                shared = ease["china" if kind == "zh_china" else kind, i]
                met = float((shared + draw.random()) / 2 < _quantile(share))
                one = record(
                    entry.key,
                    f"{kind}/{i}",
                    {"complete": met, f"complete:{kind}": met},
                    clusters={"question": f"{'us' if kind == 'us' else 'china'}{i}"},
                )
                found.append(msgspec.structs.replace(one, labels={"table": kind}))
        records[entry.key] = found
    return make_claims(build_scorecards(msgspec.structs.replace(manifest, cells=cells), tables(records)))


def _quantile(share: float) -> float:
    """Of the mean of two uniform draws: below it lies this share of them."""
    return (share / 2) ** 0.5 if share <= 0.5 else 1 - ((1 - share) / 2) ** 0.5


def of(claims: Claims, *kinds: str) -> ContrastClaim:
    return next(one for one in claims.contrasts if one.kinds == kinds)


HARDER = {  # XA meets those on China less often than those on the US by 30 points, XB by 10
    "aster-dense": {"china": 0.4, "zh_china": 0.2, "us": 0.7},
    "aster-moe": {"china": 0.4, "zh_china": 0.2, "us": 0.7},
    "borea-dense": {"china": 0.6, "zh_china": 0.6, "us": 0.7},
    "borea-moe": {"china": 0.6, "zh_china": 0.6, "us": 0.7},
}


def test_what_is_harder_for_everybody_cancels_out() -> None:
    claims = claim(HARDER, 400, 1)
    assert not claims.problems and [one.kinds for one in claims.contrasts] == [
        ("china", "us"),
        ("china", "zh_china"),
        ("us", "zh_china"),
    ]
    governments, languages = of(claims, "china", "us"), of(claims, "china", "zh_china")
    assert (governments.a, governments.b, governments.models) == ("XA", "XB", (2, 2))
    assert (governments.shared, languages.shared) == ("", "question")
    assert governments.of_a == pytest.approx(-0.3, abs=0.05) and governments.of_b == pytest.approx(
        -0.1, abs=0.05
    )
    assert governments.difference.value == pytest.approx(governments.of_a - governments.of_b)
    assert languages.difference.value == pytest.approx(0.2, abs=0.05) and languages.difference.n == 400
    for found in (governments, languages):
        assert 0 < found.difference.high - found.difference.low < 0.25
    assert governments.difference.high < 0 < languages.difference.low


def test_a_request_that_one_model_has_no_measurement_of_enters_for_none() -> None:
    found = of(claim(HARDER, 100, 2, missing=4), "china", "us")
    assert found.difference.n == 100 + 100 - 4


def test_intervals_hold_the_planted_difference() -> None:
    runs = [claim(HARDER, 50, seed) for seed in range(60)]
    for kinds, truth in ((("china", "us"), -0.2), (("china", "zh_china"), 0.2)):
        found = [of(claims, *kinds).difference for claims in runs]
        held = sum(one.low <= truth <= one.high for one in found)
        assert held >= 52  # of 60; 57 are expected, with a standard error of 1.7
        assert max(one.high - one.low for one in found) < 0.6


def test_it_is_said_with_what_it_is_true_of() -> None:
    claims = claim(HARDER, 60, 3)
    for form in ("table", "md"):
        said = " ".join(render_claims(claims, form, width=100, full=True).split())
        assert "china less us" in said and "on requests that all of them have a measurement of" in said
        assert "by question, are paired by it" in said
    assert {gap.comparison.key for gap in claims.judged} == {"asked/complete"}
    assert "asked/complete: " in render_claims(claims, "table", width=100)
    assert len(json.loads(render_claims(claims, "json"))["contrasts"]) == 3
