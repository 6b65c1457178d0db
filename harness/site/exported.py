"""A run in the format of Every Eval Ever, as a site gives it away: an archive of what it shows of it."""

import errno
import resource
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from harness.analysis.build import ModelScorecard
from harness.exports import every_eval_ever
from harness.exports.prompts import Incomplete
from harness.records.directory import RunDirectory
from harness.suites.base import Suite
from harness.suites.restore import Restored
from harness.types import CellEntry, Record, Sample

ARCHIVE = "every-eval-ever.zip"
MOST_ATTEMPTS = 20_000
"""Of a run, more than which its archive has results alone: to write them all takes minutes."""
LARGEST_FILE = 256 << 20
"""Bytes that one file may come to before it is packed; a larger one leaves results alone too."""
WHEN = (1980, 1, 1, 0, 0, 0)
"""The time of every file in an archive: the same files give the same bytes."""

LINES = "results, and the attempts that can be read here"
RESULTS = "results"


class Shown(Restored):
    """A run with what a site shows of it alone."""

    def __init__(
        self, directory: RunDirectory, cells: Collection[str], opened: Collection[str], *, restore: bool
    ) -> None:
        """What is shown.

        Args:
            directory: of the run.
            cells: keys of those whose numbers are shown.
            opened: keys of those whose attempts are shown too.
            restore: whether suites are made again, for prompts that the records do not hold.
        """
        super().__init__(directory)
        shown = {key: cell for key, cell in self.manifest.cells.items() if key in cells}
        self.manifest = msgspec.structs.replace(self.manifest, cells=shown)
        self._opened = opened
        self._restore = restore

    def records(self, cell: CellEntry) -> Iterator[Record]:
        """See `Restored.records`."""
        return super().records(cell) if cell.key in self._opened else iter(())

    def samples(self, cell: CellEntry, suite: Suite) -> dict[str, Sample]:
        """See `Restored.samples`."""
        return super().samples(cell, suite) if self._restore else {}

    def without_attempts(self) -> "Shown":
        """The same with numbers alone."""
        return Shown(self.directory, self.manifest.cells, (), restore=False)


def archive(run: Shown, place: Path, cards: Sequence[ModelScorecard] | None) -> str:
    """Write the archive of a run.

    Args:
        run: what is shown of it.
        place: where the archive goes.
        cards: its scorecards by suite, where they are there already.

    Returns: what the archive holds, in a clause; empty where nothing that is shown was measured.
    """
    if sum(run.directory.count(cell) for cell in run.manifest.cells.values()) <= MOST_ATTEMPTS:
        try:
            with _limited():
                return _archive(run, place, cards)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
    return _archive(run.without_attempts(), place, cards)


def _archive(run: Shown, place: Path, cards: Sequence[ModelScorecard] | None) -> str:
    with tempfile.TemporaryDirectory(prefix="eee-", dir=place.parent) as name:
        folder = Path(name)
        try:
            paths = every_eval_ever.write(run, folder, cards)
        except Incomplete as error:  # it is written all the same
            paths = error.paths
        if not paths:
            return ""
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(paths):
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), WHEN)
                entry.compress_type = zipfile.ZIP_DEFLATED
                with path.open("rb") as source, packed.open(entry, "w") as target:
                    shutil.copyfileobj(source, target)
    return LINES if any(path.suffix == ".jsonl" for path in paths) else RESULTS


@contextmanager
def _limited() -> Iterator[None]:
    """While inside, a file that would be larger than `LARGEST_FILE` raises OSError with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    known = [limit for limit in (soft, hard, LARGEST_FILE) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(known), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
