"""The best model that a machine holds."""

from harness.analysis.claims.evidence import Evidence, Measured
from harness.types import Struct

GPUS = ((24, "24 GB"), (48, "48 GB"), (80, "80 GB"), (141, "141 GB"), (8 * 141, "8 x 141 GB"))
"""Memory in GB -> the smallest machine that holds a model."""
USABLE = 0.9
"""Share of a GPU's memory that weights may take; caches come on top."""


class HardwareClaim(Struct):
    """The best model of an origin that fits a machine and no smaller one that already holds a better one."""

    gpu: str
    origin: str
    model: str


def hardware_claims(evidence: Evidence) -> tuple[HardwareClaim, ...]:
    """For every origin, its best model on each machine that lets it run a better one."""
    claims = []
    for origin, members in evidence.members().items():
        own = [evidence.models[i] for i in members]
        best: Measured | None = None
        for _, gpu in GPUS:
            fits = [model for model in own if smallest_gpu(_weight_bytes(model)) == gpu]
            top = max(fits, key=lambda model: (model.ability, model.name), default=None)
            if top and (best is None or top.ability > best.ability):
                best = top
                claims.append(HardwareClaim(gpu=gpu, origin=origin, model=top.name))
    return tuple(claims)


def _weight_bytes(model: Measured) -> int:
    architecture = model.card.model.architecture
    return architecture.weight_bytes if architecture else 0


def smallest_gpu(weight_bytes: int) -> str:
    """The smallest machine whose GPUs hold the weights."""
    if not weight_bytes:
        return "unknown"
    return next((name for gb, name in GPUS if weight_bytes <= USABLE * gb * 1e9), "more than 8 x 141 GB")
