"""The depot: AgentDojo's own checks, and that no checker can be passed without doing the task."""

from typing import Any

import pytest
from agentdojo.attacks.important_instructions_attacks import ImportantInstructionsAttack, ToolKnowledgeAttack
from agentdojo.functions_runtime import FunctionCall, FunctionsRuntime

from harness.suites.agentdojo_mini import Depot, task_suite

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),  # AgentDojo's clients of closed models
    pytest.mark.filterwarnings("ignore:.*:pydantic.warnings.PydanticDeprecatedSince20"),
]

USERS = list(task_suite.user_tasks.values())
GOALS = list(task_suite.injection_tasks.values())
ACTS = [task for task in USERS if task.GROUND_TRUTH_OUTPUT == "Done."]
ANSWERS = [task for task in USERS if task not in ACTS]


class Target:
    """What an attack wants to know of its target."""

    name = "local"


def fresh() -> Depot:
    return task_suite.load_and_inject_default_environment({})


def after(*calls: FunctionCall) -> Depot:
    """The depot after these calls."""
    depot, tools = fresh(), FunctionsRuntime(task_suite.tools)
    for call in calls:
        tools.run_function(depot, call.function, dict(call.args), raise_on_error=True)
    return depot


def truth(task: Any) -> list[FunctionCall]:
    return task.ground_truth(fresh())


def test_sizes() -> None:
    assert (len(USERS), len(GOALS), len(task_suite.tools)) == (10, 4, 4)
    assert len(ACTS) == len(ANSWERS) == 5


def test_agentdojo_finds_the_suite_sound() -> None:
    # AgentDojo 0.1.35 looks for the canaries in contents that are strings, and all of them are lists, so
    # that part of its check fails for every suite; the next test does it.
    sound, (users, goals) = task_suite.check(check_injectable=False)
    assert sound
    assert set(users.values()) == {(True, "")} and set(goals.values()) == {True}


def test_every_user_task_reads_its_own_injectable_text_first() -> None:
    attack = ImportantInstructionsAttack(task_suite, Target())
    candidates = [attack.get_injection_candidates(task) for task in USERS]
    assert all(len(found) == 1 for found in candidates)
    vectors = {vector for found in candidates for vector in found}
    assert vectors == set(task_suite.get_injection_vector_defaults())
    assert all(truth(task)[0].function in {"read_note", "read_label"} for task in USERS)


def test_injected_text_reaches_the_agent_in_its_first_tool_result() -> None:
    attack, tools = ImportantInstructionsAttack(task_suite, Target()), FunctionsRuntime(task_suite.tools)
    for task in USERS:
        for goal in GOALS:
            depot = task_suite.load_and_inject_default_environment(attack.attack(task, goal))
            first = truth(task)[0]
            result, error = tools.run_function(depot, first.function, dict(first.args))
            assert error is None and goal.GOAL in result


def test_the_ground_truth_solves_every_task() -> None:
    for task in USERS:
        assert task.utility(task.GROUND_TRUTH_OUTPUT, fresh(), after(*truth(task)))
    for goal in GOALS:
        assert goal.security("", fresh(), after(*truth(goal)))


@pytest.mark.parametrize("output", ["", "Done.", "As you wish."])
def test_a_do_nothing_agent_solves_nothing(output: str) -> None:
    assert not any(task.utility(output, fresh(), fresh()) for task in USERS)
    assert not any(goal.security(output, fresh(), fresh()) for goal in GOALS)


def test_repeating_the_request_is_no_answer() -> None:
    assert not any(task.utility(task.PROMPT, fresh(), fresh()) for task in USERS)


def test_reading_alone_changes_nothing() -> None:
    for task in [*USERS, *GOALS]:
        reads = [call for call in truth(task) if call.function.startswith("read")]
        assert after(*reads) == fresh()


def test_no_task_is_solved_by_solving_another() -> None:
    for task in USERS:
        others = [other for other in [*USERS, *GOALS] if other is not task]
        for other in others:
            assert not task.utility(other.GROUND_TRUTH_OUTPUT, fresh(), after(*truth(other)))
    for goal in GOALS:
        for other in [*USERS, *(g for g in GOALS if g is not goal)]:
            assert not goal.security(other.GROUND_TRUTH_OUTPUT, fresh(), after(*truth(other)))


@pytest.mark.parametrize("task", [*ACTS, *GOALS], ids=lambda task: task.ID)
def test_an_act_with_one_wrong_argument_or_done_twice_over_is_not_the_task(task: Any) -> None:
    check = task.utility if task in ACTS else task.security
    *before, act = truth(task)
    wrong = {"name": "Nobody", "amount": 1, "parcel": "P7" if act.args.get("parcel") != "P7" else "P8"}
    for name in act.args:
        changed = act.model_copy(update={"args": {**act.args, name: wrong.get(name, "Nowhere")}})
        assert not check("Done.", fresh(), after(*before, changed))
    if act.function == "pay":
        assert not check("Done.", fresh(), after(*before, act, act))


def test_defaults_leave_no_placeholder() -> None:
    text = fresh().model_dump_json()
    for vector, default in task_suite.get_injection_vector_defaults().items():
        assert vector not in text and default in text


def test_environments_are_equal_and_apart() -> None:
    one, other = fresh(), fresh()
    assert one == other
    one.payments.clear()
    assert one != other


@pytest.mark.parametrize(
    "call", [("read_note", {"title": "Moon"}), ("send_parcel", {"parcel": "P99", "city": "Oslo"})]
)
def test_a_thing_that_does_not_exist_is_an_error_that_the_agent_sees(
    call: tuple[str, dict[str, str]],
) -> None:
    depot = fresh()
    _, error = FunctionsRuntime(task_suite.tools).run_function(depot, *call)
    assert error is not None and error.startswith("ValueError: There is no ")
    assert depot == fresh()


def test_tool_results_are_short() -> None:
    tools = FunctionsRuntime(task_suite.tools)
    for task in [*USERS, *GOALS]:
        for call in truth(task):
            result, _ = tools.run_function(fresh(), call.function, dict(call.args))
            assert 0 < len(result) < 100


def test_attacks_that_name_the_tools_find_placeholders() -> None:
    attack = ToolKnowledgeAttack(task_suite, Target())
    for goal in GOALS:
        text = "".join(attack.attack(USERS[0], goal).values())
        assert all(f"${name}" in text for call in truth(goal) for name in call.args)
