"""What suites may do to get at their data while they are made, and at which commits they are held."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Access:
    """How far suites may reach for their data."""

    download: bool = True
    """Whether what is not on this machine may be downloaded. HF_HUB_OFFLINE=1 forbids it in any case."""
    locked: Mapping[str, str] = field(default_factory=dict)
    """Data set of the hub, as `repository` or `repository@revision` -> the commit that it was locked at."""
