"""What a checkpoint makes the harness compute is bounded in time and memory."""

import os
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.models import limits
from harness.models.limits import Exceeded, within_limits
from harness.models.template import read_template
from harness.models.trials import Sent, try_template

COUNTLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 1.0)
    monkeypatch.setattr(limits, "MEGABYTES", 256)


def test_constants_that_never_end_are_ended_where_a_template_is_read() -> None:
    with pytest.raises(UserError, match="the chat template takes longer than 1 s to be read"):
        read_template("{{ messages }}{{ 9 ** (9 ** 9) }}")


def test_a_template_that_is_nested_without_end_is_said() -> None:
    with pytest.raises(UserError, match="nested too deeply"):
        read_template("{{ " + "(" * 20_000 + ")" * 20_000 + " }}")


@pytest.mark.parametrize("tools", [True, False])
def test_trial_renderings_are_ended(tools: bool) -> None:
    assert try_template(COUNTLESS, Sent(tools=tools)).void == "takes longer than 1 s to render a conversation"
    grown = "{% set ns = namespace(s=messages[0].role) %}{% for n in range(60) %}"
    grown += "{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
    void = try_template(grown, Sent(tools=tools)).void
    assert void == "needs more than 0.25 GiB of memory to render a conversation"


def test_what_is_done_apart_comes_back_and_leaves_no_process() -> None:
    before = children()
    assert within_limits(lambda: os.getpid()) != os.getpid()
    with pytest.raises(KeyError, match="b"):
        within_limits(lambda: {"a": 1}["b"])
    with pytest.raises(Exceeded, match="takes longer"):
        within_limits(lambda: os._exit(0))
    assert children() <= before


def children() -> set[str]:
    """The processes that this one has begun, and has not waited for."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
