"""Does a run directory still say what was measured? Checksums, scorecards computed again, and a signature."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from harness import __version__
from harness.errors import UserError
from harness.scorecards.document import make_document
from harness.scorecards.files import WRITTEN, kept_path
from harness.scorecards.render import render
from harness.store import RunDirectory, checksum
from harness.types import Manifest, Struct

NAMESPACE = "harness"
"""What an ssh signature must say that it is for: `ssh-keygen -Y sign -n harness`."""


class Finding(Struct):
    """One thing that was looked at."""

    good: bool
    text: str


def verify(directory: RunDirectory, key: Path | None = None) -> list[Finding]:
    """Look at everything that can be verified.

    Args:
        directory: the run.
        key: who may have signed the manifest: a minisign public key, or a file of allowed ssh signers.

    Raises:
        UserError: the directory is not a run, holds no checksums, or its records are damaged beyond reading;
            there is no such key.
    """
    if key is not None and not key.is_file():
        raise UserError(f"--key {key}: expected a file, a minisign public key or allowed ssh signers")
    manifest = directory.manifest()
    if not manifest.checksums:
        raise UserError(
            f"{directory.manifest_path} holds no checksums, so nothing tells whether files are as they were: "
            "`harness run` with the same config and --out adds them"
        )
    found = [*_checksums(directory, manifest), *_strangers(directory, manifest)]
    if all(finding.good for finding in found):
        found += _scorecards(directory, manifest)
    else:
        found.append(
            Finding(good=False, text="scorecards were not computed again: files are not as they were")
        )
    return [*found, _signature(directory, key)]


def _checksums(directory: RunDirectory, manifest: Manifest) -> Iterator[Finding]:
    for name, expected in sorted(manifest.checksums.items()):
        path = directory.path / name
        if not path.resolve().is_relative_to(directory.path.resolve()):
            yield Finding(good=False, text=f"{name} lies outside of the directory")
        elif not path.exists():
            yield Finding(good=False, text=f"{name} is gone")
        elif checksum(path) != expected:
            yield Finding(good=False, text=f"{name} was changed: its checksum is not the manifest's")
        else:
            yield Finding(good=True, text=f"{name} has its checksum")
    for cell in manifest.cells.values():
        name = str(directory.records_path(cell, "parquet").relative_to(directory.path))
        if name not in manifest.checksums:
            state = "has no checksum" if (directory.path / name).exists() else "is not complete"
            yield Finding(good=state == "is not complete", text=f"{cell.suite} of {cell.model} {state}")


def _strangers(directory: RunDirectory, manifest: Manifest) -> Iterator[Finding]:
    """Files of records that belong to no cell."""
    known = {
        directory.records_path(c, suffix) for c in manifest.cells.values() for suffix in ("jsonl", "parquet")
    }
    for name in manifest.cells:
        begun, complete = (directory.records_path(manifest.cells[name], s) for s in ("jsonl", "parquet"))
        if begun.exists() and complete.exists():
            yield Finding(good=True, text=f"records/{begun.name} is not read: {complete.name} is complete")
    for path in sorted((directory.path / "records").glob("*")):
        if path.suffix in (".jsonl", ".parquet") and path not in known:
            yield Finding(good=False, text=f"records/{path.name} belongs to no cell of the manifest")


def _scorecards(directory: RunDirectory, manifest: Manifest) -> Iterator[Finding]:
    """Kept scorecards against those that the records give."""
    document = make_document(manifest, directory.columns)
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


def _other_version(manifest: Manifest) -> str:
    """What may be the cause of other scorecards: they were written by another version."""
    if manifest.harness_version == __version__:
        return ""
    return f" (the run is of harness {manifest.harness_version}, this is {__version__}: verify with that one)"


def _signature(directory: RunDirectory, key: Path | None) -> Finding:
    """The detached signature of the manifest, which holds the checksums of all else."""
    manifest = directory.manifest_path
    minisig, ssh = (manifest.with_name(f"{manifest.name}.{suffix}") for suffix in ("minisig", "sig"))
    signature = minisig if minisig.exists() else ssh
    if not signature.exists():
        return Finding(good=key is None, text="the manifest is not signed")
    if key is None:
        return Finding(
            good=True, text=f"{signature.name} was not checked: give --key with who may have signed"
        )
    check = _minisign if signature == minisig else _ssh
    return check(manifest, signature, key)


def _minisign(manifest: Path, signature: Path, key: Path) -> Finding:
    answer = _run(["minisign", "-Vm", str(manifest), "-x", str(signature), "-p", str(key)])
    good = answer.returncode == 0
    return Finding(good=good, text=f"{signature.name} {'is' if good else 'is not'} a signature by {key.name}")


def _ssh(manifest: Path, signature: Path, key: Path) -> Finding:
    keygen = ["ssh-keygen", "-Y"]
    files = ["-s", str(signature), "-f", str(key)]
    principals = _run([*keygen, "find-principals", *files]).stdout.decode(errors="replace").split()
    for principal in principals:
        answer = _run(
            [*keygen, "verify", "-n", NAMESPACE, "-I", principal, *files], stdin=manifest.read_bytes()
        )
        if answer.returncode == 0:
            return Finding(good=True, text=f"{signature.name} is a signature by {principal}")
    return Finding(good=False, text=f"{signature.name} is not a signature by anyone in {key.name}")


def _run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    if shutil.which(command[0]) is None:
        raise UserError(f"checking the signature needs {command[0]}, which is not installed: install it")
    return subprocess.run(command, input=stdin, capture_output=True, check=False)
