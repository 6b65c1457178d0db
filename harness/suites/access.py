"""What suites may do to get at their data while they are made, and at which commits they are held."""

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest import mock

from harness.errors import Absent

PATIENCE_SECONDS = 1.0
"""Who waits for longer while nothing may be downloaded waits to ask again. Locks are looked at more often."""


@dataclass(frozen=True)
class Access:
    """How far suites may reach for their data."""

    download: bool = True
    """Whether what is not on this machine may be downloaded. HF_HUB_OFFLINE=1 forbids it in any case."""
    locked: Mapping[str, str] = field(default_factory=dict)
    """Data set of the hub, as `repository` or `repository@revision` -> the commit that it was locked at."""


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE=1 forbids every download."""
    import huggingface_hub.constants

    return bool(huggingface_hub.constants.HF_HUB_OFFLINE)


@contextmanager
def nothing_downloaded() -> Iterator[None]:
    """While inside, `datasets`, huggingface_hub and `evaluate` look at what is on this machine alone.

    Code around them that waits, to ask again, would wait for nothing: it raises Absent instead.
    """
    import datasets.config
    import huggingface_hub.constants

    own, sleep = threading.get_ident(), time.sleep

    def impatient(seconds: float) -> None:
        if seconds >= PATIENCE_SECONDS and threading.get_ident() == own:
            raise Absent("data are not on this machine, and may not be downloaded")
        sleep(seconds)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(time, "sleep", impatient))
        stack.enter_context(mock.patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True))
        stack.enter_context(mock.patch.object(datasets.config, "HF_HUB_OFFLINE", True))
        stack.enter_context(mock.patch.dict(os.environ, {"HF_EVALUATE_OFFLINE": "1"}))
        if evaluate := sys.modules.get("evaluate.config"):
            stack.enter_context(mock.patch.object(evaluate, "HF_EVALUATE_OFFLINE", True))
        yield
