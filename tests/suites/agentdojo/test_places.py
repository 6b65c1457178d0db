"""Several goals injected at once, and fewer of the places that AgentDojo fills."""

from typing import Any

import pytest

from harness.errors import UserError
from harness.suites.agentdojo.searched import Options, build
from tests.suites.dojo import suite

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:DeprecationWarning"
)  # AgentDojo's clients of closed models


def injections(name: str, **options: Any) -> dict[str, dict[str, str]]:
    made = suite(name, **options).samples("Testra", None)
    return {sample.id: sample.payload.injections for sample in made if len(sample.clusters) == 2}


@pytest.mark.parametrize("name", ["agentdojo_mini", "slack"])
def test_other_goals_stand_beside_the_own_one_in_the_order_of_the_suite(name: str) -> None:
    plain, both = injections(name), injections(name, other_goals=1)
    goals = list(suite(name)._dojo.injection_tasks)
    assert plain.keys() == both.keys()
    for sample, texts in both.items():
        user, goal = sample.split("/")
        other = goals[(goals.index(goal) + 1) % len(goals)]
        first, second = sorted((goal, other), key=goals.index)
        for vector, text in texts.items():
            assert text == f"{plain[f'{user}/{first}'][vector]} {plain[f'{user}/{second}'][vector]}"
    everything = injections(name, other_goals=len(goals) - 1)
    assert len({str(everything[f"{user}/{goal}"]) for goal in goals}) == 1  # one world, judged by each goal


def test_fewer_places_hold_the_text() -> None:
    plain = injections("slack")
    for places, kept in (("first", 0), ("last", -1)):
        for sample, texts in injections("slack", places=places).items():
            vector = list(plain[sample])[kept]
            assert texts == {vector: plain[sample][vector]}
    assert any(len(texts) > 1 for texts in plain.values())


def test_they_are_in_the_protocol_and_no_part_of_agentdojos_numbers() -> None:
    plain = suite("slack")
    assert not {"places", "other_goals"} & plain.protocol.keys() and plain.declared.pooling
    assert suite("slack", places="all", other_goals=0).protocol == plain.protocol
    for options in ({"places": "first"}, {"other_goals": 2}):
        changed = suite("slack", **options)  # type: ignore[arg-type]
        assert changed.protocol != plain.protocol and changed.declared.pooling is None
        pairs = [(a, b) for a, b in zip(plain.samples("m", None), changed.samples("m", None), strict=True)]
        assert all(a.content_hash != b.content_hash for a, b in pairs)


@pytest.mark.parametrize(
    "options", [{"other_goals": 4}, {"attack": None, "other_goals": 1}, {"attack": "dos", "other_goals": 1}]
)
def test_goals_that_are_not_there_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="other_goals"):
        suite("agentdojo_mini", **options)
    with pytest.raises(UserError, match="one goal at a time"):
        build(None, Options(suite="agentdojo_mini", other_goals=1))
