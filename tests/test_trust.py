"""Names in data bring no code: what a reader vouches for is loaded, and nothing else."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.config import SuiteSpec
from harness.errors import UserError
from harness.suites import load_suites
from harness.suites.lm_eval.metrics import aggregate
from harness.trust import Trust, Untrusted, load_object, own_folder, reading_data, trusting


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module, a package, and a file that leaves a mark when it runs."""
    (tmp_path / "vouched_for.py").write_text("answer = 42\n")
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").write_text("")
    (tmp_path / "some_package" / "inner.py").write_text("answer = 43\n")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nanswer = 0\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("vouched_for", "some_package", "some_package.inner", "evil"):
        sys.modules.pop(name, None)


def test_a_config_of_ones_own_names_what_it_likes(code: Path) -> None:
    assert load_object(f"{code}/./vouched_for.py:answer", "suite") == 42
    assert load_object("math:pi", "suite") > 3


@pytest.mark.parametrize(
    "named",
    [
        "{0}/./evil.py:answer",
        "{0}/evil.py:answer",
        "evil:answer",
        "subprocess:call",
        "os:system",
        "antigravity:x",
    ],
)
def test_data_bring_no_code(code: Path, named: str) -> None:
    sys.path.append(str(code))
    with reading_data(), pytest.raises(Untrusted, match="--trust-code DIR") as caught:
        load_object(named.format(code), "suite")
    assert "\n" not in str(caught.value)
    assert not (code / "ran").exists()
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("named", "answer"),
    [
        ("/somewhere/else/./vouched_for.py:answer", 42),
        ("{0}/vouched_for.py:answer", 42),
        ("vouched_for:answer", 42),
        ("some_package.inner:answer", 43),
    ],
)
def test_what_lies_in_a_folder_that_is_vouched_for_is_loaded(code: Path, named: str, answer: int) -> None:
    with trusting(Trust(folders=(code,))), reading_data():
        assert load_object(named.format(code), "suite") == answer


def test_a_path_that_leads_out_of_the_folder_is_refused(code: Path) -> None:
    inside = code / "inside"
    inside.mkdir()
    (inside / "link.py").symlink_to(code / "evil.py")
    with trusting(Trust(folders=(inside,))):
        for named in ("/run/./../evil.py:answer", f"{code}/evil.py:answer", "/run/./link.py:answer"):
            with pytest.raises(Untrusted):
                load_object(named, "suite")
    assert not (code / "ran").exists()


def test_an_installed_package_may_offer_its_code(code: Path) -> None:
    metadata = code / "vouched_for-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: vouched-for\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[openweight_harness.code]\nmine = vouched_for:answer\n")
    sys.path.append(str(code))
    with reading_data():
        assert load_object("vouched_for:answer", "suite") == 42
        with pytest.raises(Untrusted):
            load_object("vouched_for:other", "suite")


def test_a_record_names_no_code_whoever_runs_the_command(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tasks that other tests built in this process vouch for their own.
    monkeypatch.setattr("harness.suites.lm_eval.metrics._OF_BUILT_TASKS", {})
    with pytest.raises(Untrusted, match="aggregation 'statistics:fmean' is neither"):
        aggregate("statistics:fmean", [(1,), (2,)])
    with trusting(Trust(folders=(code,))):
        (code / "vouched_for.py").write_text("def total(values):\n    return sum(values)\n")
        assert aggregate("vouched_for:total", [(1,), (2,)]) == 3


def test_operands_that_an_aggregation_cannot_take_are_said() -> None:
    with pytest.raises(UserError, match=r"perplexity cannot be computed .* restore them"):
        aggregate("perplexity", [("much",), ("more",)])


def test_what_ships_needs_nobody_to_vouch_for_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {"task": "planted_choice", "include_path": "harness:suites/planted"}
    with reading_data():
        assert aggregate("harness.suites.lm_eval.metrics:mean_of_lists", [([1, 0],), ([1],)]) == 2 / 3
        assert load_suites(SuiteSpec(adapter="lm_eval", options=options))[0].count() == 100
        assert own_folder(str(tmp_path)) == (tmp_path, False)
