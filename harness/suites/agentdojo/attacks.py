"""AgentDojo's attacks by name, addressed to the model that is measured."""

from typing import Any

from harness.errors import UserError


def check_attack(name: str) -> None:
    """Raises UserError unless AgentDojo ships the attack and it can run unattended."""
    import agentdojo.attacks.baseline_attacks
    import agentdojo.attacks.dos_attacks
    import agentdojo.attacks.important_instructions_attacks  # noqa: F401  (each registers its attacks)
    from agentdojo.attacks.attack_registry import ATTACKS

    usable = sorted(set(ATTACKS) - {"manual"})  # `manual` asks for keyboard input
    if name not in usable:
        raise UserError(f"there is no attack {name!r}: use one of {', '.join(usable)}, or null for none")


def is_denial_of_service(attack: str) -> bool:
    """Whether the attack only wants the user's task to fail, which is then its success."""
    from agentdojo.attacks.attack_registry import ATTACKS

    return bool(ATTACKS[attack].is_dos_attack)


def load_attack(name: str, dojo: Any, model_name: str) -> Any:
    """An attack that addresses the model by the name given.

    AgentDojo takes the name from a fixed list by the pipeline's name, and raises for models that are
    not in it. The attack is made for its entry "local", whose name is then replaced.
    """
    from agentdojo.agent_pipeline.base_pipeline_element import BasePipelineElement
    from agentdojo.attacks.attack_registry import ATTACKS
    from agentdojo.models import MODEL_NAMES

    class Target(BasePipelineElement):  # type: ignore[misc]
        name = "local"

        def query(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError("attacks only read the name of their target")

    attack = ATTACKS[name](dojo, Target())
    if getattr(attack, "model_name", None) == MODEL_NAMES["local"]:
        attack.model_name = model_name
    return attack
