"""Where the data of lm-eval's tasks come from: local files, the cache of the hub, or the hub at one commit.

lm-eval loads all data with `datasets.load_dataset`, and so do most tasks that have code of their own. While
tasks are built that function is ours (`patches`): it asks the hub for one commit of each repository, or for
nothing, and sees that what was loaded is of that commit. Knows nothing of suites.
"""

import glob
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from harness.errors import Absent, UserError
from harness.models import hub
from harness.suites.access import Access, nothing_downloaded
from harness.suites.lm_eval.patches import data_loaded_by, hub_loader, preferred_in_cache
from harness.trust import trusts_everything

COMMIT = re.compile(r"[0-9a-f]{40}")

HUB_PREFIX = "hf://datasets/"

Revision = str | Mapping[str, str] | None
"""A branch, tag or commit of the one repository that a task reads, or of each of several."""


class Source:
    """What the tasks of one suite load from the hub."""

    def __init__(self, revision: Revision, access: Access) -> None:
        """Args: revision: what is asked for. access: what may be asked of the hub."""
        self.revision = revision
        self.commits: dict[str, str | None] = {}
        """`repository` or `repository@revision`, as it was asked for -> the commit that was loaded; None for
        a copy in the cache that is of no commit."""
        self.plain = False
        """Whether nothing may be read but plain files of this machine and the cache of the hub."""
        self.downloads = access.download and not hub.offline()
        self._locked = access.locked
        self._commits: dict[str, str] = {}
        self._load = hub_loader()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While inside, data are loaded from here, and nothing is downloaded if nothing may be."""
        if (
            hub.offline()
        ):  # for metrics that are fetched only when they are used; `evaluate` has its own switch
            os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")
        with ExitStack() as stack:
            stack.enter_context(nullcontext() if self.downloads else nothing_downloaded())
            stack.enter_context(data_loaded_by(self.load))
            yield

    def load(self, path: str, *args: Any, revision: str | None = None, **kwargs: Any) -> Any:
        """`datasets.load_dataset`, at the commit that this source has for the repository.

        Raises:
            Absent: it is not on this machine, and nothing may be downloaded.
            UserError: the hub does not give it, or what was loaded is of another commit.
        """
        if self.plain:
            check_plain(path, kwargs)
        elif not (on_hub(path) or is_file_format(path) or Path(path).is_absolute() or trusts_everything()):
            raise UserError(
                f"{path} is in the working directory, and nobody says that it is the data set of that name: "
                "read the results from another folder"
            )
        if not on_hub(path):
            return self._load_files(path, *args, **kwargs)
        repository = path.removeprefix(HUB_PREFIX)
        asked = self._asked(repository) or revision
        name = f"{repository}@{asked}" if asked else repository
        commit = self._commit(repository, asked, name)
        try:
            with preferred_in_cache(commit):
                data = self._load(path, *args, revision=commit, **kwargs)
        except load_errors() as error:
            if self.downloads:
                raise
            raise Absent(f"the data set {name}") from error
        self.commits[name] = self._checked(name, commit, data)
        return data

    def _load_files(self, path: str, name: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Data in local files, cached under their digest: `datasets` goes by the time of a file alone."""
        paths = local_files(kwargs.get("data_files")) if name is None else []
        if paths and is_file_format(path):
            name = content_digest(paths)
        return self._load(path, name, *args, **kwargs)

    def _asked(self, repository: str) -> str | None:
        if isinstance(self.revision, Mapping):
            return self.revision.get(repository)
        others = {name.partition("@")[0] for name in self.commits} - {repository}
        if self.revision is not None and others:
            raise UserError(
                f"revision {self.revision} is given for the data sets {', '.join(sorted(others))} and "
                f"{repository} alike: give a mapping from each to its own"
            )
        return self.revision

    def _commit(self, repository: str, asked: str | None, name: str) -> str | None:
        """The commit to load, None for whichever the cache has."""
        if asked is not None and COMMIT.fullmatch(asked):
            return asked
        if name in self._locked:
            return self._locked[name]
        if self.downloads:
            if name not in self._commits:
                self._commits[name] = hub.dataset_commit(repository, asked)
            return self._commits[name]
        if asked is not None:
            raise Absent(f"the data set {repository} at {asked}, whose commit no lock says")
        return None

    def _checked(self, name: str, commit: str | None, data: Any) -> str | None:
        """The commit of what was loaded."""
        loaded = commit_of(data, commit)
        if commit is None or loaded == commit:
            return loaded
        if not self.downloads:
            raise Absent(f"the data set {name} at commit {commit}")
        raise UserError(
            f"of the data set {name} commit {commit} was asked for, and {loaded or 'a copy of no commit'} "
            "came from the cache of `datasets`: see that the hub can be reached, and try again"
        )

    def check_revision(self, what: str) -> None:
        """Raises UserError for a revision of a data set that was never read."""
        read = sorted({name.partition("@")[0] for name in self.commits})
        if self.revision is not None and not read:
            raise UserError(f"{what} reads no data set of the hub: leave its revision out")
        stray = sorted(set(self.revision) - set(read)) if isinstance(self.revision, Mapping) else []
        if stray:
            raise UserError(
                f"revision names the data set {stray[0]}, which {what} does not read: give those of "
                f"{', '.join(read)}"
            )


def load_errors() -> tuple[type[Exception], ...]:
    """What `datasets` raises for data that it does not find."""
    from datasets.exceptions import DatasetsError

    return (OSError, ValueError, DatasetsError)


def on_hub(path: str) -> bool:
    """Whether `load_dataset` looks for this on the hub: it is neither a format of files nor a folder."""
    return path.startswith(HUB_PREFIX) or not (is_file_format(path) or Path(path).exists())


PLAIN_FORMATS = ("json", "csv", "parquet", "text")
"""Formats of `datasets` that hold nothing but data: others read pickles, or whatever a folder holds."""


def check_plain(path: str, options: Mapping[str, Any]) -> None:
    """Raises UserError for a data set that a stranger's task file may not have loaded."""
    if not on_hub(path) and path not in PLAIN_FORMATS:
        raise UserError(
            f"dataset_path {path!r} is none of {', '.join(PLAIN_FORMATS)} nor a data set of the hub, and "
            "the task file that names it is not trusted: name its folder with --trust-code DIR"
        )
    stray = sorted(options.keys() - {"data_files", "split", "name"})
    if stray or "://" in str(options.get("data_files", "")):
        raise UserError(
            f"dataset_kwargs {stray[0] if stray else 'data_files'} asks for more than files of this machine, "
            "and the task file that says so is not trusted: name its folder with --trust-code DIR"
        )


def is_file_format(dataset_path: object) -> bool:
    """Whether a dataset is read from plain files (json, csv, ...). Elsewhere paths belong to a repository."""
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    return dataset_path in _PACKAGED_DATASETS_MODULES


def commit_of(data: Any, streamed: str | None = None) -> str | None:
    """The commit of loaded data, by the folder of their files in the cache; None if it is not of one.

    Args:
        data: a `Dataset`, or a mapping from splits to them.
        streamed: the commit that was asked for, which data that are streamed are of.
    """
    from datasets import IterableDataset

    commits = set()
    for part in data.values() if isinstance(data, Mapping) else [data]:
        if isinstance(part, IterableDataset):
            commits.add(streamed)
        for file in getattr(part, "cache_files", ()):
            folder = Path(file["filename"]).parent.name
            commits.add(folder if COMMIT.fullmatch(folder) else None)
    return commits.pop() if len(commits) == 1 else None


# Local files


def resolve_data_files(config: dict[str, Any], base: Path, name: str) -> None:
    """Make relative `data_files` absolute, in a task's config or in those of a group's members.

    Args:
        config: of lm-eval, changed in place.
        base: folder that the paths begin at.
        name: of the task, for the sentence of the error.

    Raises:
        UserError: a file does not exist.
    """
    members = config.get("task")
    for member in members if isinstance(members, list) else ():
        if isinstance(member, dict):
            resolve_data_files(member, base, member.get("task", name))
    options = config.get("dataset_kwargs") or {}
    if "data_files" in options and is_file_format(config.get("dataset_path")):
        files = _absolute(options["data_files"], base, name)
        config["dataset_kwargs"] = {**options, "data_files": files}


def _absolute(files: Any, base: Path, name: str) -> Any:
    if isinstance(files, dict):
        return {split: _absolute(value, base, name) for split, value in files.items()}
    if isinstance(files, list | tuple):
        return [_absolute(value, base, name) for value in files]
    if "://" in str(files):
        return files
    path = base / str(files)
    if path.is_file():
        _check_file(path, name)
        return glob.escape(str(path))
    if not set("*?[") & set(str(files)):
        raise UserError(
            f"lm-eval task {name}: its data file {path} does not exist: set `data_dir` to the folder that "
            f"holds {files}, or correct data_files in its YAML"
        )
    # A pattern is what the YAML says, not what the folder above it is called.
    return str(Path(glob.escape(str(base))) / str(files))


def _check_file(path: Path, name: str) -> None:
    """Raises UserError for a file of which `datasets` would say something that does not help."""
    if "::" in str(path):
        raise UserError(
            f"lm-eval task {name}: `datasets` takes the `::` in {path} for a chain of archives: rename the "
            "folder or the file"
        )
    if path.stat().st_size < 64 and path.read_bytes().strip() in (b"", b"[]"):
        raise UserError(f"lm-eval task {name}: its data file {path} holds no document: get the file again")


def local_files(data_files: Any) -> list[Path]:
    """The files on this machine that `data_files` of `datasets` stand for, patterns resolved."""
    if isinstance(data_files, Mapping):
        data_files = list(data_files.values())
    if isinstance(data_files, list | tuple):
        return [path for part in data_files for path in local_files(part)]
    if data_files is None or "://" in str(data_files):
        return []
    return sorted(Path("/").glob(str(data_files).lstrip("/")))


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())[:500] or type(error).__name__


def content_digest(paths: Sequence[Path]) -> str:
    """16 hexadecimal digits of the SHA-256 of what files hold."""
    total = hashlib.sha256()
    for path in paths:
        if path.is_file():
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]
