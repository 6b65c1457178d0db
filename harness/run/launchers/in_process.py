"""Jobs in this process, one after the other."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial

from harness.run.attempts import Progress
from harness.run.jobs import Job
from harness.run.read_ahead import ReadAhead
from harness.run.watched import Watched
from harness.suites.scoring_processes import Scorers


class InProcess:
    """Satisfies `Launcher`."""

    def run(self, jobs: Sequence[Job], progress: Progress) -> Iterator[Job]:
        """See `Launcher.run`."""
        suites = {suite.name: suite for job in jobs for suite in job.suites}
        with Scorers(suites.values()) as scorers, asyncio.Runner() as runner:
            for place, job in enumerate(jobs):
                with Watched(job, progress) as watched, ReadAhead() as ahead:
                    job.on_loaded = partial(ahead.begin, jobs[place + 1 :])
                    job.begin(watched)
                    while job.owes:
                        runner.run(job.run(watched, scorers))
                    for name in job.names:
                        watched.ended(name)
                yield job
