"""Reading a results root for a site: each run is verified and scored again by a process of its own.

A run directory may be anybody's. Its process has its share of memory and of time, and what it comes to is
kept in the reader's own folder, by the checksums of what it was made of: where nothing changed, nothing is
done.
"""

import hashlib
import multiprocessing
import multiprocessing.connection
import os
import pickle
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import msgspec

from harness import suites
from harness.analysis.benchmarks import by_benchmark
from harness.analysis.build import ModelScorecard, build_scorecards
from harness.disk import make_folder, remove_abandoned, replace
from harness.errors import UserError
from harness.hostile import one_line
from harness.memory import free_bytes, within_memory
from harness.records.directory import RunDirectory
from harness.records.layout import EARLIER, RUN
from harness.replay.verify import CellScores, Finding, score_cell, verify
from harness.reports.recall import code_digest
from harness.site import exported
from harness.site.attempts import Choice, Published, publish
from harness.site.local import without_folders
from harness.site.settings import SiteSettings
from harness.suites.restore import Restored
from harness.trust import Trust, trusting
from harness.types import CellEntry, ModelEntry, Struct

WORKERS = 2
SHOWN = 3
"""Reasons of a refusal that are told."""
PAGES = (
    "board",
    "build",
    "downloads",
    "front",
    "models",
    "origins",
    "page",
    "plots",
    "submit",
    "suites",
    "prose",
    "document",
)
SHOWING = ("api.py", "cli", "site/static", "site/templates", *(f"site/{name}.py" for name in PAGES))
"""What has no part in reading a run: where it changes, none is read anew."""


class Reading(Struct):
    """How a root is read."""

    signers: Path | None = None
    """A minisign public key, or a file of allowed ssh signers."""
    quick: bool = False
    """Whether scoring again is left out."""
    attempts: Choice = None
    """How many attempts of each cell are published."""
    seconds: float = 1800.0
    """What one run may take, for the first time."""
    settings: SiteSettings = SiteSettings()
    trusted: tuple[Path, ...] = ()
    """Folders of code that the reader trusts."""


class TakenCell(Struct):
    """A cell of a run that was taken."""

    entry: CellEntry
    id: str
    """Of its attempts in addresses: of the run's folder and the cell, whatever is changed in it."""
    folder: str
    """In the reader's own folder, where its attempts are."""
    created: str
    """When it was planned, ISO 8601; of the run where the cell does not say."""
    harness_version: str
    again: int
    """Attempts that were scored again from their transcripts."""
    published: Published


class Taken(Struct):
    """What was found of a run."""

    name: str
    """Of its folder."""
    refused: tuple[str, ...] = ()
    """Why it was not taken, a sentence each; the rest is empty then."""
    title: str = ""
    created: str = ""
    harness_version: str = ""
    versions: dict[str, str] = {}
    hardware: dict[str, str] = {}
    digest: str = ""
    """SHA-256 of the file that a signature is of."""
    signed: bool = False
    signer: str | None = None
    """Who signed it, where that was checked."""
    models: dict[str, ModelEntry] = {}
    cells: tuple[TakenCell, ...] = ()
    exported: str = ""
    """What its archive of Every Eval Ever holds; empty where there is none."""
    not_exported: str = ""
    """Why there is none, where something went wrong."""
    seconds: float = 0.0
    """How long it took to read."""
    folder: str = ""
    """In the reader's own folder, where its scorecards are kept."""


class Store:
    """The reader's own folder, in which it is kept what runs came to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for part in ("runs", "scores", "attempts"):
            make_folder(path / part)

    def cards(self, taken: Taken) -> list[ModelScorecard]:
        """The scorecards of a run that was taken."""
        with (self.path / "runs" / taken.folder / "cards").open("rb") as file:
            cards: list[ModelScorecard] = pickle.load(file)  # our own file
        return cards

    def exported(self, taken: Taken) -> Path:
        """The archive of Every Eval Ever of a run that was taken."""
        return self.path / "runs" / taken.folder / exported.ARCHIVE

    def attempts(self, cell: TakenCell) -> Path:
        """The folder of a cell's attempts."""
        return self.path / "attempts" / cell.folder


def run_folders(root: Path) -> list[Path]:
    """The run directories right below a folder, by name.

    Raises:
        UserError: there is no such folder, or none in it.
    """
    if not root.is_dir():
        raise UserError(f"{root}: expected a folder of run directories")
    if RunDirectory(root).is_run:
        raise UserError(f"{root} is a run itself: give the folder that it lies in, with the others")
    folders = sorted(path for path in root.iterdir() if RunDirectory(path).is_run)
    if not folders:
        raise UserError(
            f"{root} holds no run directory (a folder with {RUN} or {EARLIER}): give their folder"
        )
    return folders


def take_all(root: Path, store: Store, reading: Reading, tell: Callable[[str], None]) -> list[Taken]:
    """What every run of a root comes to, by name.

    Args:
        root: a folder of run directories.
        store: what is kept from earlier.
        reading: how they are read.
        tell: is called with a line for each run that was read anew.

    Raises:
        UserError: as `run_folders`.
    """
    remove_abandoned(store.path / "attempts")
    runs: dict[Path, Taken] = {}
    owed: list[tuple[Path, str]] = []
    for path in run_folders(root):
        if path.is_symlink():  # whoever can add to a root is not to publish what lies elsewhere
            runs[path] = Taken(name=path.name, refused=("it is a link: put the run itself there",))
            continue
        key = _fingerprint(path, reading)
        kept = store.path / "runs" / key / "taken.json"
        if kept.exists():
            runs[path] = msgspec.json.decode(kept.read_bytes(), type=Taken)
        else:
            owed.append((path, key))
    for path, taken in _each(owed, store, reading):
        runs[path] = taken
        tell(f"{path.name}: {_told(taken)} ({taken.seconds:.1f} s)")
    return [runs[path] for path in sorted(runs)]


def _told(taken: Taken) -> str:
    if taken.refused:
        return f"refused: {taken.refused[0]}"
    attempts = sum(cell.published.attempts for cell in taken.cells)
    return f"{len(taken.models)} models, {len(taken.cells)} cells, {attempts:,} attempts"


def _fingerprint(path: Path, reading: Reading) -> str:
    """A digest that changes where a file of a run does: of sizes and of times that nobody can set."""
    hasher = hashlib.sha256(code_digest(*SHOWING).encode())
    hasher.update(msgspec.json.encode(msgspec.structs.replace(reading, signers=None, trusted=())))
    if reading.signers is not None and reading.signers.is_file():
        hasher.update(reading.signers.read_bytes())
    hasher.update(os.fsencode("\0".join(map(str, (path.resolve(), *reading.trusted)))))
    for folder, names, files in os.walk(path):
        names.sort()
        for name in sorted(files):
            about = os.lstat(Path(folder, name))
            hasher.update(os.fsencode(f"{folder}/{name}\0"))
            hasher.update(
                f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {about.st_ino}\n".encode()
            )
    return hasher.hexdigest()[:32]


def _each(owed: Sequence[tuple[Path, str]], store: Store, reading: Reading) -> Iterator[tuple[Path, Taken]]:
    """Read runs, some at a time, each in a process that is ended where it takes longer than its share."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    share = free_bytes() // (WORKERS + 1)
    waiting = list(owed)
    running: list[tuple[ForkServerProcess, Path, str, float]] = []
    while waiting or running:
        while waiting and len(running) < WORKERS:
            path, key = waiting.pop(0)
            process = context.Process(target=_take, args=(path, key, store.path, reading, share))
            process.start()
            running.append((process, path, key, time.monotonic()))
        left = min(began for *_, began in running) + reading.seconds - time.monotonic()
        sentinels = [process.sentinel for process, *_ in running]
        multiprocessing.connection.wait(sentinels, timeout=min(1.0, max(0.0, left)))
        for one in list(running):
            process, path, key, began = one
            seconds = time.monotonic() - began
            if process.is_alive() and seconds < reading.seconds:
                continue
            running.remove(one)
            if process.is_alive():
                process.kill()
            process.join()
            kept = store.path / "runs" / key / "taken.json"
            if kept.exists():
                yield path, msgspec.json.decode(kept.read_bytes(), type=Taken)
            else:
                why = f"to read it takes longer than {reading.seconds:g} s"
                if seconds < reading.seconds:
                    why = f"to read it {ended(process.exitcode)}"
                yield path, Taken(name=path.name, refused=(why,), seconds=seconds)


def ended(status: int | None) -> str:
    """How a process came to its end that should have told what it found."""
    if status is None or status >= 0:
        return f"ended its process with status {status}"
    name = signal.Signals(-status).name
    return f"ended its process by {name}, as happens where it takes more memory than there is for one run"


def _take(path: Path, key: str, store: Path, reading: Reading, share: int) -> None:
    """Read one run and keep what it comes to. In a process of its own."""
    began = time.monotonic()
    folder = store / "runs" / key
    folder.mkdir(exist_ok=True)
    try:
        with trusting(Trust(folders=reading.trusted)), within_memory(share):
            taken = _read(RunDirectory(path), folder, Store(store), reading)
    except UserError as error:
        taken = Taken(name=path.name, refused=(one_line(str(error)),))
    except MemoryError:
        taken = Taken(name=path.name, refused=("to read it takes more memory than there is for one run",))
    except Exception as error:  # whoever made it meant it to be read, or did not
        taken = Taken(
            name=path.name, refused=(f"it cannot be read: {type(error).__name__}: {one_line(str(error))}",)
        )
    taken = msgspec.structs.replace(
        taken,
        refused=tuple(map(without_folders, taken.refused)),
        not_exported=without_folders(taken.not_exported),
        seconds=round(time.monotonic() - began, 3),
    )
    replace(folder / "taken.json", msgspec.json.encode(taken))


def _read(directory: RunDirectory, folder: Path, store: Store, reading: Reading) -> Taken:
    name = directory.path.name
    # No kept scorecard is shown: every number of the site is computed from the records.
    findings = verify(directory, reading.signers, quick=True, scorecards=False)
    if wrong := [finding for finding in findings if finding.good is False and not _is_unsigned(finding)]:
        return Taken(name=name, refused=_reasons(wrong))
    run = Restored(directory)
    sums = directory.checksums(run.manifest)
    scores = {key: _scores(run, cell, sums, store, reading) for key, cell in run.manifest.cells.items()}
    if wrong := [finding for one in scores.values() for finding in one.findings if finding.good is False]:
        return Taken(name=name, refused=_reasons(wrong))
    of_suites = build_scorecards(run.manifest, directory.columns, processes=1)  # runs are taken side by side
    cards = by_benchmark(of_suites, run.manifest)
    if unread := [sentence for card in cards for sentence in card.unread.values()]:
        return Taken(name=name, refused=tuple(map(one_line, unread[:SHOWN])))
    with (folder / "cards").open("wb") as file:
        pickle.dump([card.computed() for card in cards], file, protocol=5)
    cells = tuple(
        _cell(run, cell, sums, scores[key].again, store, reading) for key, cell in run.manifest.cells.items()
    )
    given, not_given = _exported(run, cells, (of_suites, cards), folder, reading)
    return Taken(
        name=name,
        title=run.manifest.name,
        created=run.manifest.created,
        harness_version=run.manifest.harness_version,
        versions=run.manifest.versions,
        hardware=run.manifest.hardware,
        digest=hashlib.sha256(directory.manifest_path.read_bytes()).hexdigest(),
        signed=any(directory.path.glob(f"{directory.manifest_path.name}.*sig")),
        signer=next((finding.signer for finding in findings if finding.signer), None),
        models=run.manifest.models,
        cells=cells,
        exported=given,
        not_exported=not_given,
        folder=folder.name,
    )


def _exported(
    run: Restored,
    cells: Sequence[TakenCell],
    cards: tuple[list[ModelScorecard], list[ModelScorecard]],
    folder: Path,
    reading: Reading,
) -> tuple[str, str]:
    """(what the archive of Every Eval Ever holds, why there is none); cards: (by suite, by benchmark)."""
    withdrawn = set(_withdrawn(cards[1], run.directory.path.name, reading.settings))
    shown = [cell for cell in cells if (cell.entry.model, cell.entry.suite) not in withdrawn]
    whole = reading.attempts is None
    opened = {cell.entry.key for cell in shown if whole and not cell.published.closed}
    own = exported.Shown(run.directory, {cell.entry.key for cell in shown}, opened, restore=not reading.quick)
    try:
        return exported.archive(own, folder / exported.ARCHIVE, None if withdrawn else cards[0]), ""
    except (MemoryError, OSError):  # of this machine, not of the run
        raise
    except Exception as error:  # a run may say anything that the format has no place for
        return "", one_line(f"{type(error).__name__}: {error}")


def _withdrawn(
    cards: Sequence[ModelScorecard], run: str, settings: SiteSettings
) -> Iterator[tuple[str, str]]:
    """(model, suite) of what is withdrawn of a run, where a benchmark stands for all of its suites."""
    for card in cards:
        for name, suite in card.suites.items():
            if any(change.concerns(card.model.name, name, run) for change in settings.withdrawn):
                yield from ((card.model.name, part) for part in suite.members or (name,))


def _is_unsigned(finding: Finding) -> bool:
    """Whether a finding is that there is no signature, which is shown and refuses nothing."""
    return "is not signed" in finding.text


def _reasons(findings: Sequence[Finding]) -> tuple[str, ...]:
    more = len(findings) - SHOWN
    sentences = [one_line(finding.text) for finding in findings[:SHOWN]]
    return (*sentences, f"and {more} more") if more > 0 else tuple(sentences)


def _made_of(run: Restored, cell: CellEntry, sums: dict[str, str], *more: str) -> str:
    """A digest of what a cell's scores and attempts are made of."""
    paths = {str(path.relative_to(run.directory.path)) for path in _cell_files(run.directory, cell)}
    hasher = hashlib.sha256(code_digest(*SHOWING).encode())
    for name in sorted({*paths, run.directory.config_path.name}):
        path = run.directory.path / name
        if path.is_file():
            known = sums.get(name) or hashlib.sha256(path.read_bytes()).hexdigest()
            hasher.update(f"{name} {known}\n".encode())
    hasher.update("\0".join((cell.key, cell.model, cell.suite, *more)).encode())
    return hasher.hexdigest()[:32]


def _cell_files(directory: RunDirectory, cell: CellEntry) -> Iterator[Path]:
    yield from (directory.complete_path(cell), directory.injections_path(cell))
    yield from directory.appended_paths(cell)
    yield from directory.verdicts(cell).files()
    if not directory.layout.earlier:
        yield from directory.layout.folder(cell).glob("*.json")


def _scores(
    run: Restored, cell: CellEntry, sums: dict[str, str], store: Store, reading: Reading
) -> CellScores:
    """What scoring a cell again comes to, which is done once for the same files."""
    if reading.quick:
        return CellScores(attempts=run.directory.count(cell), again=0, findings=())
    kept = store.path / "scores" / f"{_made_of(run, cell, sums)}.json"
    if kept.exists():
        return msgspec.json.decode(kept.read_bytes(), type=CellScores)
    scores = score_cell(run, cell)
    if scores.again:  # else it took no time
        replace(kept, msgspec.json.encode(scores))
    return scores


def _cell(
    run: Restored, cell: CellEntry, sums: dict[str, str], again: int, store: Store, reading: Reading
) -> TakenCell:
    policy = reading.settings.publication.get(cell.suite) or suites.publication(cell)
    closed = "" if policy == "public" else CLOSED
    chosen = str((reading.attempts, closed, reading.quick))
    key = _made_of(run, cell, sums, chosen)
    folder = store.path / "attempts" / key
    done = folder / "published.json"
    if not done.exists():
        # Another process may be at the same cell in another run: who is done first, is.
        own = Path(tempfile.mkdtemp(prefix=f".{key}.", suffix=".tmp", dir=folder.parent))
        published = publish(run, cell, own, reading.attempts, closed, restore=not reading.quick)
        (own / done.name).write_bytes(msgspec.json.encode(published))
        try:
            own.rename(folder)
        except OSError:
            shutil.rmtree(own)
    planned = run.manifest
    return TakenCell(
        entry=cell,
        id=hashlib.sha256(f"{run.directory.path.name}\0{cell.key}".encode()).hexdigest()[:12],
        folder=key,
        created=planned.created,
        harness_version=planned.harness_version,
        again=again,
        published=msgspec.json.decode(done.read_bytes(), type=Published),
    )


CLOSED = "the site publishes numbers alone of this suite"
"""Why attempts cannot be read."""
