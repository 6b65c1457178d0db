"""Does a run directory still say what was measured?

Checksums, scorecards computed again from the records, scores from their transcripts, and a signature. Whether
a transcript is what the model wrote nobody can tell but who ran it: that is what a signature is for.
"""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness import __version__
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.records.layout import CHECKSUMS
from harness.records.seal import checksum
from harness.replay.rescore import RUNS_PROGRAMS, changed_protocol, misfit, misfits, rescore
from harness.reports.document import make_document
from harness.reports.kept import WRITTEN, kept_path
from harness.reports.render import render
from harness.suites.base import Suite
from harness.suites.restore import Restored
from harness.types import CellEntry, Manifest, Sample, Struct

NAMESPACE = "harness"
"""What an ssh signature must say that it is for: `ssh-keygen -Y sign -n harness`."""


COVERS = (
    ": it covers the file, and by its checksums the config, the records and what was injected; "
    "scorecards, which are computed from these, are compared above"
)

SHOWN = 10
"""Attempts of a cell that are named, of those that do not fit."""


class Finding(Struct):
    """One thing that was looked at."""

    good: bool | None
    """None where it could not be looked at: nothing speaks against it, and nothing for it."""
    text: str
    signer: str | None = None
    """Of a signature that holds: whose it is."""


class CellScores(Struct):
    """What came of scoring the records of a cell again."""

    attempts: int
    """That the cell has."""
    again: int
    """How many of them were scored again: all or none."""
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        """Whether nothing came out otherwise."""
        return all(finding.good is not False for finding in self.findings)


def verify(
    directory: RunDirectory,
    key: Path | None = None,
    suites: Mapping[str, str] | None = None,
    *,
    quick: bool = False,
    run_programs: bool = False,
    scorecards: bool = True,
) -> list[Finding]:
    """Look at everything that can be verified.

    Args:
        directory: the run.
        key: who may have signed the manifest: a minisign public key, or a file of allowed ssh signers.
        suites: see `harness.replay.replay`.
        quick: whether to leave out scoring the records again.
        run_programs: whether to run what the model wrote, where that is how a suite scores.
        scorecards: whether to compare the scorecards that are kept beside the records.

    Raises:
        UserError: the directory is not a run, holds no checksums, or its records are damaged beyond reading;
            there is no such key.
    """
    if key is not None and not key.is_file():
        raise UserError(f"--key {key}: expected a file, a minisign public key or allowed ssh signers")
    manifest = directory.whole_manifest()
    checksums = directory.checksums(manifest)
    if not checksums:
        raise UserError(
            f"{directory.manifest_path} holds no checksums, so nothing tells whether files are as they were: "
            "`harness run` with the same config and --out adds them"
        )
    findings = [*_checksums(directory, manifest, checksums), *_strangers(directory, manifest)]
    if all(finding.good is not False for finding in findings):
        findings += _scorecards(directory, manifest) if scorecards else ()
        findings += () if quick else _scores(directory, suites, run_programs)
    else:
        findings.append(
            Finding(
                good=False, text="scorecards and scores were not computed again: files are not as they were"
            )
        )
    return [*findings, *_others(directory, manifest, checksums), _signature(directory, manifest, key)]


def _checksums(
    directory: RunDirectory, manifest: Manifest, checksums: Mapping[str, str]
) -> Iterator[Finding]:
    for name, expected in sorted(checksums.items()):
        path = directory.path / name
        if not path.resolve().is_relative_to(directory.path.resolve()):
            yield Finding(good=False, text=f"{name} lies outside of the directory")
        elif not path.exists():
            yield Finding(good=False, text=f"{name} is gone")
        elif checksum(path) != expected:
            yield Finding(good=False, text=f"{name} was changed: its checksum is another one")
        else:
            yield Finding(good=True, text=f"{name} has its checksum")
    for cell in manifest.cells.values():
        name = str(directory.complete_path(cell).relative_to(directory.path))
        if name not in checksums:
            state = "has no checksum" if (directory.path / name).exists() else "is not complete"
            yield Finding(good=state == "is not complete", text=f"{cell.suite} of {cell.model} {state}")
        elif not directory.layout.earlier:
            told = {f"{Path(name).parent}/{engine}" for engine in directory.engines(cell)}
            for engine in sorted(told - checksums.keys()):
                yield Finding(good=False, text=f"{engine} has no checksum")
        for path, lines in directory.damaged(cell).items():
            said = f"{path.relative_to(directory.path)}: line {', '.join(map(str, lines))}"
            yield Finding(good=False, text=f"{said} is not as it was written: owed again")


def _strangers(directory: RunDirectory, manifest: Manifest) -> Iterator[Finding]:
    """Files of records that do not count."""
    known: set[Path] = set()
    for cell in manifest.cells.values():
        complete, appended = directory.complete_path(cell), directory.appended_paths(cell)
        known |= {complete, *appended, *directory.verdicts(cell).files()}
        for path in appended if complete.exists() else ():
            name = path.relative_to(directory.path)
            yield Finding(good=True, text=f"{name} is not read: {complete.name} is complete")
    folders = {path.parent for path in known}
    for path in sorted(directory.files()):
        if path.suffix in (".jsonl", ".parquet") and path not in known:
            name = path.relative_to(directory.path)
            # A folder of its own is of a cell that the config asked for once.
            own = path.parent not in folders
            yield Finding(good=own, text=f"{name} belongs to no cell of the run")


def _scorecards(directory: RunDirectory, manifest: Manifest) -> Iterator[Finding]:
    """Kept scorecards against those that the records give."""
    document = make_document(manifest, directory.columns, records=directory.each_record)
    yield from (Finding(good=False, text=said) for said in document.incomplete)
    if not any(kept_path(directory, form).exists() for form in WRITTEN):  # as of what was submitted
        yield Finding(good=None, text="no scorecard is kept: `harness scorecard` makes it from the records")
        return
    for form in WRITTEN:
        path = kept_path(directory, form)
        if not path.exists():
            yield Finding(
                good=not all(card.complete for card in document.models), text=f"{path.name} is not there"
            )
        elif path.read_bytes() != render(document, form).encode():
            yield Finding(
                good=False, text=f"{path.name} is not what the records give{_other_version(manifest)}"
            )
        else:
            yield Finding(good=True, text=f"{path.name} is what the records give, byte for byte")


def _scores(
    directory: RunDirectory, suites: Mapping[str, str] | None, run_programs: bool
) -> Iterator[Finding]:
    """Every cell's records scored again, as far as that can be done here, and which share of all that is."""
    run, again, of = Restored(directory, suites), 0, 0
    for cell in run.manifest.cells.values():
        scores = score_cell(run, cell, run_programs=run_programs)
        yield from scores.findings
        again, of = again + scores.again, of + scores.attempts
    share = f" ({100 * again // of}%)" if of else ""
    text = f"{again} of {of} attempts were scored again from their transcripts{share}"
    if again < of:
        text += ": the scores of the others are what the folder says that they are"
    yield Finding(good=True if again == of else None, text=text)


def score_cell(run: Restored, cell: CellEntry, *, run_programs: bool = False) -> CellScores:
    """Score the records of a cell again, as far as that can be done here.

    Args:
        run: that the cell is of.
        cell: whose records.
        run_programs: whether to run what the model wrote, where that is how a suite scores.
    """
    about = f"{cell.suite} of {cell.model}"
    try:
        number = run.directory.count(cell)
    except UserError as error:
        return CellScores(attempts=0, again=0, findings=(Finding(good=False, text=f"{about}: {error}"),))
    try:
        suite = run.suite(cell)
        why = RUNS_PROGRAMS if suite.needs.sandbox and not run_programs else None
        samples = {} if why else run.samples(cell, suite)
    except UserError as error:
        why = str(error)
    if why is not None:
        said = Finding(good=None, text=f"{about} was not scored again: {why}")
        return CellScores(attempts=number, again=0, findings=(said,))
    imported = run.manifest.models[cell.model].imported
    findings, wrong = [], 0
    for wrong, what in enumerate(_differences(suite, samples, cell, run.directory, imported=imported), 1):
        if wrong <= SHOWN:
            findings.append(Finding(good=False, text=f"{about}: {what}"))
    if wrong > SHOWN:
        findings.append(
            Finding(good=False, text=f"{about}: {wrong - SHOWN} more do not fit: `harness replay`")
        )
    if not wrong:
        findings.append(Finding(good=True, text=f"{about}: {number} attempts give the scores that they have"))
    return CellScores(attempts=number, again=number, findings=tuple(findings))


def _differences(
    suite: Suite,
    samples: Mapping[str, Sample],
    cell: CellEntry,
    directory: RunDirectory,
    *,
    imported: bool,
) -> Iterator[str]:
    """What a cell and its records say, and their suite and transcripts do not."""
    as_run = not imported and not changed_protocol(suite, cell)
    # Prompts of a chat template are told from the checkpoint that is here, which may be another one.
    as_shown = as_run and cell.protocol.get("apply_chat_template") != "True"
    if not imported:
        yield from misfits(suite, samples, cell, as_run=as_run)
    for rescored in rescore(suite, samples, cell, directory.each_record(cell)):
        record = rescored.record
        said = rescored.reason
        if said is None and not imported and record.sample in samples:
            said = misfit(samples[record.sample], record, as_run=as_run, as_shown=as_shown)
        elif said is not None:
            names = sorted(
                n
                for n in {*rescored.stored, *rescored.replayed}
                if rescored.stored.get(n) != rescored.replayed.get(n)
            )
            said = f"{', '.join(names)} come out otherwise ({said})"
        if said is not None:
            yield f"attempt {record.attempt} at {record.sample}: {said}"


def _others(directory: RunDirectory, manifest: Manifest, checksums: Mapping[str, str]) -> Iterator[Finding]:
    """Files that are no part of a run: no checksum and no signature covers them, and nothing reads them."""
    signed = directory.manifest_path
    part = {directory.path / name for name in checksums}
    part |= {directory.config_path, directory.folder_path, directory.lock_path}
    part |= {kept_path(directory, form) for form in WRITTEN}
    part |= {signed.with_name(f"{signed.name}{end}") for end in ("", ".sig", ".minisig")}
    part |= {path for path in directory.files() if path.suffix in (".jsonl", ".parquet")}
    for cell in manifest.cells.values():
        if not directory.is_complete(cell):
            part |= set(directory.complete_path(cell).parent.glob("*.json"))
    for path in sorted(directory.path.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(directory.path.resolve()):
            yield Finding(
                good=False, text=f"{path.relative_to(directory.path)} is a link that leads elsewhere"
            )
        elif path.is_file() and path not in part:
            yield Finding(
                good=None,
                text=f"{path.relative_to(directory.path)} is not part of a run, and nothing verifies it",
            )


def _other_version(manifest: Manifest) -> str:
    """What may be the cause of other scorecards: they were written by another version."""
    if manifest.harness_version == __version__:
        return ""
    return f" (the run is of harness {manifest.harness_version}, this is {__version__}: verify with that one)"


def _signature(directory: RunDirectory, manifest: Manifest, key: Path | None) -> Finding:
    """The detached signature of the file that holds the checksums of all else."""
    signed = directory.manifest_path
    minisig, ssh = (signed.with_name(f"{signed.name}.{suffix}") for suffix in ("minisig", "sig"))
    signature = minisig if minisig.exists() else ssh
    if not signature.exists():
        return Finding(
            good=None if key is None else False,
            text=f"{signed.name} is not signed: whoever can write here can have changed transcripts as well",
        )
    if key is None:
        return Finding(
            good=None, text=f"{signature.name} was not checked: give --key with who may have signed"
        )
    for cell in manifest.cells.values():
        sealed = directory.complete_path(cell).with_name(CHECKSUMS)
        if sealed.exists() and str(sealed.relative_to(directory.path)) not in manifest.checksums:
            return Finding(
                good=False,
                text=f"{signature.name} does not cover {cell.suite} of {cell.model}, complete since",
            )
    check = _minisign if signature == minisig else _ssh
    return check(signed, signature, key)


def _minisign(manifest: Path, signature: Path, key: Path) -> Finding:
    answer = _run(["minisign", "-Vm", str(manifest), "-x", str(signature), "-p", str(key)])
    good = answer.returncode == 0
    said = f"is a signature by {key.name}{COVERS}" if good else f"is not a signature by {key.name}"
    return Finding(good=good, text=f"{signature.name} {said}", signer=key.name if good else None)


def _ssh(manifest: Path, signature: Path, key: Path) -> Finding:
    keygen = ["ssh-keygen", "-Y"]
    files = ["-s", str(signature), "-f", str(key)]
    principals = _run([*keygen, "find-principals", *files]).stdout.decode(errors="replace").split()
    for principal in principals:
        answer = _run(
            [*keygen, "verify", "-n", NAMESPACE, "-I", principal, *files], stdin=manifest.read_bytes()
        )
        if answer.returncode == 0:
            return Finding(
                good=True,
                text=f"{signature.name} is a signature by {principal}{COVERS}",
                signer=principal,
            )
    return Finding(good=False, text=f"{signature.name} is not a signature by anyone in {key.name}")


def _run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    if shutil.which(command[0]) is None:
        raise UserError(f"checking the signature needs {command[0]}, which is not installed: install it")
    return subprocess.run(command, input=stdin, capture_output=True, check=False)
