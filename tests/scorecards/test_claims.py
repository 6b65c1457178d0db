"""Claims: each follows from the records by a formula that is said."""

import json
import math
from pathlib import Path

import msgspec
import pytest

from harness.cli import main
from harness.errors import UserError
from harness.scorecards.build import build_scorecards
from harness.scorecards.claims import Claims, make_claims, render_claims, smallest_gpu
from tests.scorecards.synthetic import synthetic_run, tables
from tests.scorecards.test_compare import write


@pytest.fixture(scope="module")
def claims() -> Claims:
    manifest, records = synthetic_run()
    return make_claims(build_scorecards(manifest, tables(records)), price=3.6)


def test_cost_per_solved_task(claims: Claims) -> None:
    _, records = synthetic_run()
    for found in claims.models:
        own = records[f"{found.model}-questions"]
        solved = sum(s.value for r in own for s in r.scores)
        assert found.solved == solved
        assert found.capability == pytest.approx(solved / 58)
        assert found.seconds_per_solved == pytest.approx(60 * 0.25 / solved)
        assert found.cost_per_solved == pytest.approx(found.seconds_per_solved / 1000)
        assert found.tokens_per_solved == pytest.approx(60 * 110 / solved)


def test_three_instruments_agree_on_who_leads(claims: Claims) -> None:
    (gap,) = claims.gaps
    ranked = sorted(claims.models, key=lambda model: model.ability)
    best = {model.country: model for model in ranked}
    p, q = best["XA"].capability, best["XB"].capability
    assert (gap.a, gap.b, gap.best_a) == ("XA", "XB", best["XA"].model)
    assert gap.points == pytest.approx(100 * (p - q))
    assert math.log(gap.odds_ratio) == pytest.approx(math.log(p / (1 - p)) - math.log(q / (1 - q)))
    assert 0 < gap.ability_low < gap.ability < gap.ability_high
    assert claims.questions == 58


@pytest.mark.parametrize(
    ("gigabytes", "name"),
    [(1, "24 GB"), (21.6, "24 GB"), (22, "48 GB"), (61, "80 GB"), (100, "141 GB"), (700, "8 x 141 GB")],
)
def test_smallest_gpu(gigabytes: float, name: str) -> None:
    assert smallest_gpu(int(gigabytes * 1e9)) == name
    assert smallest_gpu(2 * 10**12) == "more than 8 x 141 GB"
    assert smallest_gpu(0) == "unknown"


def test_every_format_names_its_instruments(claims: Claims) -> None:
    for form in ("table", "md"):
        text = " ".join(render_claims(claims, form, width=160).split())
        assert "Rasch model" in text and "no gap is corrected" in text and "at 3.6 an hour" in text
    assert json.loads(render_claims(claims, "json"))["gaps"][0]["best_a"].startswith("aster")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "run", *synthetic_run())
    assert main(["claims", str(run), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["cost_per_solved"] is None


def test_suites_with_attacks_alone_claim_no_capability() -> None:
    manifest, records = synthetic_run()
    cells = {key: cell for key, cell in manifest.cells.items() if cell.suite == "agent"}
    cards = build_scorecards(msgspec.structs.replace(manifest, cells=cells), tables(records))
    with pytest.raises(UserError, match="nothing to claim"):
        make_claims(cards)
