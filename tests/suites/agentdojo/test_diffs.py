"""Pruned comparisons of environments find what deepdiff finds."""

import pickle
from typing import Any

import pytest
from deepdiff import DeepDiff

from harness.suites.agentdojo.audit import corrections
from harness.suites.agentdojo.diffs import equal_parts, same
from harness.suites.agentdojo.patches import pruned_diffs
from harness.suites.agentdojo.world import Task, World, load_task_suite

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),  # AgentDojo's clients of closed models
    pytest.mark.filterwarnings("ignore:.*:pydantic.warnings.PydanticDeprecatedSince20"),
]


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (True, 1, False),
        ({"x": [1, (2,)]}, {"x": [1, (2,)]}, True),
        ({"x": 1}, {"y": 1}, False),
        ([1], [1, 2], False),
        ((1,), [1], False),
        ({"x": [1]}, {"x": [True]}, False),
    ],
)
def test_same_is_equality_of_values_and_types(a: Any, b: Any, equal: bool) -> None:
    assert same(a, b) == equal


def changed(environment: Any) -> None:
    inbox = environment.inbox
    inbox.emails["3"].body = "changed"
    inbox.emails["99"] = inbox.emails["4"]
    del inbox.emails["5"]
    environment.calendar.events["5"].participants.append("a@b.com")
    environment.cloud_drive.files["3"].size = float(environment.cloud_drive.files["3"].size)


def emptied(environment: Any) -> None:
    """So much is gone that deepdiff takes the mails for others altogether."""
    emails = environment.inbox.emails
    for key in list(emails)[:-10]:
        del emails[key]
    environment.cloud_drive.files.clear()


def sent(environment: Any) -> None:
    for number in range(4):
        environment.inbox.send_email(["a@b.com"], f"mail {number}", "body")


@pytest.mark.parametrize("gone", range(11))
def test_pruned_mappings_are_walked_into_where_whole_ones_are(gone: int) -> None:
    """From a third of the keys in common on; 10 keys here, of which one has another value."""
    a = {str(key): [key] for key in range(10)}
    for b in (
        {**dict(list(a.items())[gone:]), "9": [99]},
        {**dict(list(a.items())[gone:]), **{f"new {n}": n for n in range(gone)}, "9": [99]},
    ):
        pruned = DeepDiff(a, b, custom_operators=[equal_parts()]).to_dict()
        assert pruned == DeepDiff(a, b).to_dict() != {}


def test_pruned_diffs_find_the_same() -> None:
    load = load_task_suite("workspace", "v1.2.2").load_and_inject_default_environment
    from agentdojo.default_suites.v1.workspace.task_suite import WorkspaceDeepDiff  # only after the suites

    for change in (lambda environment: None, emptied, sent, changed):
        before, after = load({}), load({})
        change(after)
        for sides in ((after, before), (before, after)):
            with pruned_diffs():
                pruned = WorkspaceDeepDiff(*sides).to_dict()
            assert pruned == WorkspaceDeepDiff(*sides).to_dict()
    assert "custom_operators" not in WorkspaceDeepDiff.keywords
    assert pruned.keys() == {
        "dictionary_item_added",
        "dictionary_item_removed",
        "iterable_item_added",
        "type_changes",
        "values_changed",
    }


@pytest.mark.parametrize("version", ["v1", "v1.1.2", "v1.2.2"])
@pytest.mark.parametrize("suite", ["workspace", "travel", "banking", "slack"])
def test_agentdojos_checkers_change_nothing(suite: str, version: str) -> None:
    """Without a tool call they are given one environment as both, of which other attempts have parts too."""
    from agentdojo.base_tasks import BaseUserTask

    dojo, apart = (load_task_suite(suite, version) for _ in "ab")
    apart.look = None
    checkers = corrections(suite, version) if version == "v1.2.2" else {}
    goals = list(dojo.injection_tasks.values())
    untouched = pickle.dumps(dojo.look({}))
    for number, user in enumerate(dojo.user_tasks.values()):
        goal = goals[number % len(goals)]
        task = Task(user_task=user.ID, injection_task=goal.ID, injections={})
        asked = [
            (judged, answer, checker)
            for judged in (user, goal)
            for answer in ("", user.GROUND_TRUTH_OUTPUT or "Yes.")
            for checker in {None, checkers.get(judged.ID)}
        ]
        verdicts = [World(dojo, task).verdict(*question) for question in asked]
        assert verdicts == [World(apart, task).verdict(*question) for question in asked]
        assert user.init_environment is BaseUserTask.init_environment  # which gives back what it is given
    assert pickle.dumps(dojo.look({})) == untouched
    before, after = World(dojo, task)._judged()
    assert before is after
    before, after = World(apart, task)._judged()
    assert before is not after


def test_what_is_shared_is_what_is_loaded() -> None:
    dojo = load_task_suite("workspace", "v1.2.2")
    for text in ("plain", "a \\n slash", "two\n\nlines"):
        injections = {"email_facebook_injection": text}
        assert dojo.look(injections) == dojo.load_and_inject_default_environment(injections)


def test_checkers_of_ones_own_are_given_two_environments() -> None:
    dojo = load_task_suite("agentdojo_mini", "v1.2.2")
    before, after = World(
        dojo, Task(user_task=next(iter(dojo.user_tasks)), injection_task=None, injections={})
    )._judged()
    assert before is not after
