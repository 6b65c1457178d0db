"""AgentDojo's attacks by name, or one of the user's own, addressed to the model that is measured."""

from collections.abc import Sequence
from string import Formatter
from typing import Any

from harness.config import as_written
from harness.errors import UserError
from harness.suites.agentdojo.options import Options
from harness.suites.agentdojo.own_suites import source_digest
from harness.suites.agentdojo.patches import addressed_to
from harness.suites.digests import digest
from harness.trust import load_object

MANUAL = "manual"
"""AgentDojo's attack whose texts somebody types at the keyboard. Here the options give the text."""

FIELDS = ("goal", "user", "model", "task")
"""What may stand in braces in that text, as in AgentDojo's fixed attacks."""


def check_attack(name: str, text: str | None = None) -> None:
    """Raises UserError unless the attack can be run.

    Args:
        name: of one of AgentDojo's, or `package.module:Class` of a subclass of its `BaseAttack`.
        text: for `manual`.
    """
    _attack_class(name)
    if (name == MANUAL) != (text is not None):
        fault = "needs an attack_text" if name == MANUAL else f"has its own text: attack_text is for {MANUAL}"
        raise UserError(f"the attack {name} {fault}")
    if text is None:
        return
    try:
        for _, field, form, conversion in Formatter().parse(text):
            if field is not None and (field not in FIELDS or form or conversion):
                raise KeyError(field)  # attributes and widths: a text names what stands there, and no more
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(
            f"attack_text may have {', '.join(f'{{{field}}}' for field in FIELDS)} in it; other braces are "
            f"written twice ({type(error).__name__}: {error})"
        ) from error


def attack_identity(name: str, text: str | None) -> str:
    """What tells one attack from another: AgentDojo's by name, others by their text or source as well."""
    if text is not None:
        return f"{name} {digest(text)[:12]}"
    if ":" not in name:
        return name
    return f"{as_written(name)} {source_digest([_attack_class(name)])}"


def is_denial_of_service(name: str) -> bool:
    """Whether the attack only wants the user's task to fail, which is then its success."""
    return bool(_attack_class(name).is_dos_attack)


def load_attack(name: str, dojo: Any, model_name: str, text: str | None = None) -> Any:
    """An attack that addresses the model by the name given."""
    from agentdojo.agent_pipeline.base_pipeline_element import BasePipelineElement
    from agentdojo.attacks.base_attacks import FixedJailbreakAttack

    class Target(BasePipelineElement):  # type: ignore[misc]
        name = "local"

        def query(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError("attacks only read the name of their target")

    if text is not None:
        manual = FixedJailbreakAttack(text, dojo, Target())
        manual.model_name = model_name
        return manual
    with addressed_to(model_name) as target:
        Target.name = target
        return _attack_class(name)(dojo, Target())


def injected(attack: Any, user_task: Any, injection_task: Any) -> dict[str, str]:
    """Vector -> text that an attack puts there.

    Raises:
        UserError: the attack has nothing to say to these tasks.
    """
    try:
        return dict(attack.attack(user_task, injection_task))
    except ValueError as error:  # how AgentDojo's attacks say so
        raise UserError(
            f"the attack {attack.name} cannot be made on {user_task.ID} for {injection_task.ID} ({error}): "
            "the ground truth of a user task must read one of the suite's injection vectors"
        ) from error


def placed(texts: Sequence[dict[str, str]], places: str) -> dict[str, str]:
    """Vector -> what stands there of several texts, in their order, in the places that are used.

    Args:
        texts: vector -> text, of each goal; all goals have the vectors that the user task reads.
        places: as of the options.
    """
    vectors = list(texts[0])
    used = {"all": vectors, "first": vectors[:1], "last": vectors[-1:]}[places]
    return {vector: " ".join(one[vector] for one in texts) for vector in used}


def check_places(options: Options, goals: int, *, denial: bool) -> None:
    """Raises UserError where other goals cannot be injected.

    Args:
        options: of the suite.
        goals: injection tasks of the suite.
        denial: whether the attack has no goal of its own.
    """
    if options.other_goals and (options.attack is None or denial):
        raise UserError("other_goals: there are none without an attack that has a goal: leave it out")
    if options.other_goals and options.other_goals >= goals:
        raise UserError(
            f"other_goals: {options.suite} has {goals} injection tasks, so that at most {goals - 1} others "
            "can be injected beside one"
        )


def check_injections(dojo: Any, sample: str, injections: dict[str, str]) -> None:
    """Raises UserError if an environment is no YAML any more with these texts in it."""
    import yaml

    try:
        dojo.load_and_inject_default_environment(injections)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(
            f"with what is injected for {sample}, the environment cannot be read "
            f"({' '.join(str(error).split())[:160]}): quotes and line breaks may have to be left out"
        ) from error


def _attack_class(name: str) -> Any:
    """The class of an attack. Raises UserError if there is none."""
    import agentdojo.attacks.baseline_attacks
    import agentdojo.attacks.dos_attacks
    import agentdojo.attacks.important_instructions_attacks  # noqa: F401  (each registers its attacks)
    from agentdojo.attacks.attack_registry import ATTACKS
    from agentdojo.attacks.base_attacks import BaseAttack

    if ":" not in name:
        if name not in ATTACKS:
            raise UserError(
                f"there is no attack {name!r}: use one of {', '.join(sorted(ATTACKS))}, "
                "your own as package.module:Class, or null for none"
            )
        return ATTACKS[name]
    attack = load_object(name, "attack")
    if not (isinstance(attack, type) and issubclass(attack, BaseAttack)):
        raise UserError(f"attack {name} is not a subclass of agentdojo.attacks.BaseAttack")
    return attack
