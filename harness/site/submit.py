"""A run made ready to be given to others: checked, stripped of what is of one machine, scored again, signed.

Signing comes last, since stripping changes files and what seals them.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from harness import suites
from harness.disk import replace
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.records.layout import CELL, CHECKSUMS, CONFIG, RUN
from harness.records.merge import merge
from harness.records.sane import read_file
from harness.records.schema import CellFile, EngineFile, RunFile
from harness.records.seal import checksum, rewrite, write
from harness.replay.verify import NAMESPACE, CellScores, score_cell, verify
from harness.reports.text import escape_markdown
from harness.site.local import PATHS
from harness.suites.restore import Restored
from harness.types import Struct

SUMMARY = "SUBMISSION.md"
KEYS = re.compile(r"\b(?:hf_|sk-|gh[opsu]_|xox[abp]-|AKIA|AIza)[A-Za-z0-9_-]{16,}")
"""What services begin their keys with."""


class Submitted(Struct):
    """What was made ready."""

    summary: str
    """Markdown, also in `SUBMISSION.md`."""
    signed: bool


def submit(
    directory: RunDirectory, out: Path, key: Path | None = None, *, run_programs: bool = False
) -> Submitted:
    """Write a submission: a run directory that holds nothing of one machine, with a summary.

    Args:
        directory: the run, which is left as it is.
        out: where the submission goes; it is not there yet.
        key: a private ssh key that it is signed with.
        run_programs: whether to run what models wrote, where that is how a suite scores.

    Raises:
        UserError: the run is not whole, not pinned or not what its files say, or `out` is there.
    """
    if out.exists():
        raise UserError(f"--out {out} is there already: give another folder")
    if key is not None and not key.is_file():
        raise UserError(f"--key {key}: expected a private ssh key")
    wrong = [f.text for f in verify(directory, quick=True, scorecards=False) if f.good is False]
    wrong += _not_whole(directory)
    if wrong:
        raise UserError(f"{directory.path} cannot be submitted: {'; '.join(wrong[:5])}")
    notes = list(_not_pinned(directory))
    copy = RunDirectory(out)
    try:
        notes += merge([directory], copy)[:-1]
        removed = _strip(copy)
        run = Restored(copy)
        scores = {
            name: score_cell(run, c, run_programs=run_programs) for name, c in run.manifest.cells.items()
        }
        if bad := [f.text for one in scores.values() for f in one.findings if f.good is False]:
            raise UserError(f"{directory.path} cannot be submitted: {'; '.join(bad[:5])}")
        summary = "\n".join(_summary(run, scores, removed, notes)) + "\n"
        replace(out / SUMMARY, summary.encode())
        if key is not None:
            _sign(copy.manifest_path, key)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return Submitted(summary=summary, signed=key is not None)


def _not_whole(directory: RunDirectory) -> Iterator[str]:
    for cell in directory.whole_manifest().cells.values():
        if not directory.is_complete(cell):
            yield f"{cell.suite} of {cell.model} is not complete"


def _not_pinned(directory: RunDirectory) -> Iterator[str]:
    """What does not tell which weights or data were measured. Raises UserError for weights."""
    manifest = directory.whole_manifest()
    if not directory.config_path.exists():
        yield "there is no config: what others ran cannot be run again from it"
        return
    revisions = {spec.name: spec.revision for spec in directory.config().models}
    for name, model in manifest.models.items():
        known = model.architecture is not None and model.architecture.weights_hash is not None
        if not known and not model.imported and revisions.get(name) is None:
            raise UserError(
                f"{directory.path} cannot be submitted: nothing tells which weights {name} has; run it "
                "again with its `revision`, which `harness pin` finds"
            )


def _clean(text: str, counts: dict[str, int]) -> str:
    """A text without absolute paths and keys."""
    text, keys = KEYS.subn("[key removed]", text)
    text, paths = PATHS.subn(r"\1", text)
    counts["keys"] = counts.get("keys", 0) + keys
    counts["paths"] = counts.get("paths", 0) + paths
    return text


def _cleaned(value: Any, counts: dict[str, int]) -> Any:
    if isinstance(value, str):
        return _clean(value, counts)
    if isinstance(value, dict):
        return {name: _cleaned(item, counts) for name, item in value.items()}
    return [_cleaned(item, counts) for item in value] if isinstance(value, list | tuple) else value


def _strip(run: RunDirectory) -> dict[str, int]:
    """Take paths and keys out of what says how a run was made, and seal it anew; how many of each."""
    counts: dict[str, int] = {}
    changed: dict[str, str] = {}
    for folder in run.layout.folders():
        for path in sorted(folder.glob("engine-*.json")):
            file = read_file(path, EngineFile)
            facts, hardware = msgspec.to_builtins(file.facts), _cleaned(file.hardware, counts)
            facts = msgspec.convert(_cleaned(facts, counts), type(file.facts))
            own = rewrite(folder, path.name, msgspec.structs.replace(file, facts=facts, hardware=hardware))
            changed |= {str((folder / CHECKSUMS).relative_to(run.path)): own[1]} if own else {}
        cell = read_file(folder / CELL, CellFile)
        model = msgspec.convert(_cleaned(msgspec.to_builtins(cell.model), counts), type(cell.model))
        own = rewrite(folder, CELL, msgspec.structs.replace(cell, model=model))
        changed |= {str((folder / CHECKSUMS).relative_to(run.path)): own[1]} if own else {}
    if run.config_path.exists():
        text = run.config_path.read_text(encoding="utf8")
        replace(run.config_path, _clean(text, counts).encode())
        changed[CONFIG] = checksum(run.config_path)
    told_run = read_file(run.path / RUN, RunFile)
    write(run.path / RUN, msgspec.structs.replace(told_run, checksums={**told_run.checksums, **changed}))
    return counts


def _summary(
    run: Restored, scores: Mapping[str, CellScores], removed: Mapping[str, int], notes: list[str]
) -> Iterator[str]:
    manifest = run.manifest
    again, of = (sum(getattr(one, name) for one in scores.values()) for name in ("again", "attempts"))
    yield f"# Submission: {escape_markdown(manifest.name)}"
    yield ""
    begun, version = manifest.created[:10], escape_markdown(manifest.harness_version)
    yield f"{len(manifest.models)} models, {len(manifest.cells)} cells, {of:,} attempts, run of {begun} by "
    yield f"harness {version}. {again:,} attempts were scored again from their transcripts for this."
    yield ""
    yield "| model | suite | attempts | scored again | failed | shown on a site |"
    yield "|---|---|---:|---:|---:|---|"
    suspects = 0
    for name, cell in sorted(manifest.cells.items(), key=lambda one: (one[1].model, one[1].suite)):
        failed = 0
        for record in run.directory.each_record(cell):
            failed += record.failure is not None
            suspects += bool(KEYS.search(msgspec.json.encode(record.transcript).decode()))
        fields = (
            cell.model,
            cell.suite,
            f"{scores[name].attempts:,}",
            f"{scores[name].again:,}",
            f"{failed:,}",
        )
        cells = (*map(escape_markdown, fields), suites.publication(cell))
        yield f"| {' | '.join(cells)} |"
    yield ""
    paths, keys = removed.get("paths", 0), removed.get("keys", 0)
    yield f"Removed from config and engine facts: {paths} paths, {keys} keys."
    if suspects:
        yield ""
        yield f"{suspects} transcripts hold what looks like a key. They were left as they are: look at them."
    for note in notes:
        yield ""
        yield f"Note: {escape_markdown(note)}."


def _sign(manifest: Path, key: Path) -> None:
    """Sign what holds the checksums of all else. Raises UserError if that cannot be done."""
    if shutil.which("ssh-keygen") is None:
        raise UserError("signing needs ssh-keygen, which is not installed: install it")
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(manifest)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise UserError(f"--key {key}: ssh-keygen does not sign with it ({answer.stderr.strip()})")
