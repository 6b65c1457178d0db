"""Launchers: where jobs are run, how many at once, and on what."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from harness.run.attempts import Progress
from harness.run.jobs import Job


class Launcher(Protocol):
    """Takes jobs, runs them, and tells what came of them."""

    def run(self, jobs: Sequence[Job], progress: Progress) -> Iterator[Job]:
        """Run jobs until none owes anything; yields each as it ends, with its problems.

        Raises:
            DiskError: what was to be kept could not be.
        """
        ...
