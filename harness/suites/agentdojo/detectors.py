"""Classifiers that tell prompt injections from harmless texts, for the defence `transformers_pi_detector`."""

import logging
import re
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from harness.config import as_written
from harness.errors import UserError
from harness.models import hub
from harness.models.checkpoint import find_folder, fingerprint, read_json, weight_files
from harness.suites.agentdojo.options import DEFAULT_DETECTOR, DEFAULT_DETECTOR_REVISION, Options
from harness.suites.base import ModelRole, SecondModel
from harness.trust import load_object
from harness.types import Struct

COMMIT = re.compile("[0-9a-f]{40}")

Detect = Callable[[str], bool]
"""Whether a text carries a prompt injection. Called outside the event loop, one text at a time."""

THRESHOLD = 0.5
"""A text is an injection if the probability of the harmless label is below: AgentDojo's default."""

MAX_REMEMBERED = 4096
"""Texts whose verdicts are remembered: most of what tools answer is the same in every attempt."""


class DetectorSpec(Struct):
    """Which classifier, and where it runs."""

    path: str
    """Folder or hub id of a transformers checkpoint, or `package.module:function` for a `Detect`."""
    revision: str | None
    safe_label: str
    """What the checkpoint calls a harmless text."""
    device: str

    @property
    def is_function(self) -> bool:
        """Whether it is a function of somebody's own, and no checkpoint."""
        return ":" in self.path


def detector_spec(options: Options) -> DetectorSpec:
    """The detector that a suite's options describe."""
    given = options.detector_revision
    fixed = DEFAULT_DETECTOR_REVISION if options.detector == DEFAULT_DETECTOR else None
    return DetectorSpec(
        path=options.detector,
        revision=given or fixed,
        safe_label=options.detector_safe_label,
        device=options.detector_device,
    )


def second_model(spec: DetectorSpec) -> SecondModel:
    """The detector as a model that is there while the measured one is."""
    try:
        folder = None if spec.is_function else _folder(spec)
        weight_bytes = sum(path.stat().st_size for path in weight_files(folder)) if folder else None
    except UserError:  # `check_detector` says why
        weight_bytes = None
    return SecondModel(
        role=ModelRole.DETECTOR,
        path=spec.path,
        revision=spec.revision,
        device=spec.device,
        weight_bytes=weight_bytes,
    )


def check_detector(spec: DetectorSpec) -> str | None:
    """What there is to download before the detector can be used. One that is here is loaded and tried.

    Raises:
        UserError: it cannot be had, or cannot be used.
    """
    if not spec.is_function and _folder(spec) is None:
        return f"detector {spec.path}@{hub.commit(spec.path, spec.revision)} is not on this machine"
    load_detector(spec)
    return None


@cache
def load_detector(spec: DetectorSpec) -> Detect:
    """The detector, ready for use; a checkpoint that is not on this machine is downloaded.

    Raises:
        UserError: it cannot be had, or cannot be used; the sentence says why.
    """
    if spec.is_function:
        detect: Detect = load_object(spec.path, "detector")
        return detect
    folder = _folder(spec) or hub.snapshot(spec.path, hub.commit(spec.path, spec.revision))
    _check_checkpoint(spec, folder)
    return lru_cache(MAX_REMEMBERED)(_agentdojos(spec, folder))


def identity(spec: DetectorSpec) -> str:
    """What tells one detector from another: the content of a folder, the commit of a repository."""
    if spec.is_function:
        return as_written(spec.path)
    if Path(spec.path).is_dir():
        folder = Path(spec.path)
        return f"sha256:{fingerprint(folder, [*folder.glob('*.safetensors')])} ({spec.safe_label})"
    return f"{spec.path}@{_commit(spec)} ({spec.safe_label})"


def _commit(spec: DetectorSpec) -> str | None:
    """The commit of the files on this machine, else the hub's. Where neither can be read the detector cannot
    be used either, which `check_detector` says before anything is run.
    """
    if spec.revision and COMMIT.fullmatch(spec.revision):
        return spec.revision
    try:
        folder = _folder(spec)
        return folder.name if folder else hub.commit(spec.path, spec.revision)
    except UserError:
        return spec.revision


def _folder(spec: DetectorSpec) -> Path | None:
    return find_folder(spec.path, spec.revision, "detector")


def _check_checkpoint(spec: DetectorSpec, folder: Path) -> None:
    """Transformers makes up the head of a checkpoint that has none, and says no more than a warning."""
    weight_files(folder)  # refuses pickled weights
    config = read_json(folder / "config.json")
    kinds = config.get("architectures") or ["no architecture"]
    if not kinds[0].endswith("ForSequenceClassification"):
        raise UserError(f"detector {spec.path} is {kinds[0]}: expected a text classifier")
    labels = sorted((config.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}).values())
    if spec.safe_label not in labels:
        raise UserError(
            f"detector {spec.path} has the labels {', '.join(labels)} and not {spec.safe_label!r}: "
            "name that of harmless texts as `detector_safe_label`"
        )


def _agentdojos(spec: DetectorSpec, folder: Path) -> Detect:
    """AgentDojo's detector around the checkpoint, with one text read as a trial."""
    from agentdojo.agent_pipeline.pi_detector import TransformersBasedPIDetector

    # Its constructor takes a GPU where there is one, which is vLLM's here, and reads pickled weights.
    detector = TransformersBasedPIDetector.__new__(TransformersBasedPIDetector)
    detector.safe_label, detector.threshold = spec.safe_label, THRESHOLD

    def detect(text: str) -> bool:
        return bool(detector.detect(text)[0])

    try:
        detector.pipeline = _pipeline(spec, folder)
        detect("Hello.")
    except Exception as error:  # whatever transformers, torch and the checkpoint's tokenizer may raise
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"detector {spec.path} cannot be used ({type(error).__name__}: {reason}): give the folder or "
            "hub id of a text classifier, or package.module:function"
        ) from error
    return detect


def _pipeline(spec: DetectorSpec, folder: Path) -> Any:
    import torch
    from transformers import pipeline
    from transformers.utils.logging import disable_progress_bar

    device = torch.device(spec.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"detector_device is {spec.device}, and there is no GPU")
    # It warns of every text that is longer than what the classifier was trained on. AgentDojo reads all.
    logging.getLogger("transformers.tokenization_utils_base").setLevel(logging.ERROR)
    disable_progress_bar()
    return pipeline(
        "text-classification", model=str(folder), device=device, model_kwargs={"use_safetensors": True}
    )
