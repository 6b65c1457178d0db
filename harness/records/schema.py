"""What the JSON files of a run directory hold, but for records."""

from typing import Literal

from harness.types import (
    SCHEMA_VERSION,
    Caution,
    CellEntry,
    EngineFacts,
    ModelEntry,
    Struct,
    SuiteGroup,
)


class RunFile(Struct):
    """`run.json`: what the config asks for. The process that plans a run writes it, and no other."""

    name: str
    config_digest: str
    harness_version: str
    """Of the version that planned last."""
    created: str
    """ISO 8601, UTC."""
    cells: tuple[str, ...]
    """Keys of the cells that are part of the run, in the order of the config."""
    cautions: tuple[Caution, ...] = ()
    """What was known before the run, and run all the same."""
    checksums: dict[str, str] = {}
    """SHA-256 of the config and of the `checksums.json` of complete cells. A signature of this file covers
    by them all that was measured."""
    git_hash: str | None = None
    """Of the folder that it was begun in."""
    schema_version: int = SCHEMA_VERSION


class CellFile(Struct):
    """`cell.json`: what is measured, known before it is."""

    cell: CellEntry
    model: ModelEntry
    """`engine` is None: it stands in the files of the engines."""
    groups: tuple[SuiteGroup, ...]
    """The benchmarks that the suite is a part of, an outer one before those inside of it."""
    harness_version: str
    created: str
    """ISO 8601, UTC."""
    versions: dict[str, str]
    """Package -> version, where the cell was planned."""
    schema_version: int = SCHEMA_VERSION


class EngineFile(Struct):
    """`engine-WRITER.json`: an engine that worked on a cell."""

    facts: EngineFacts
    hardware: dict[str, str]
    versions: dict[str, str]
    """Package -> version, where the engine ran."""
    started: float
    """Unix time at which the model was loaded; 0 where nobody knows."""
    load_seconds: float | None = None
    """How long loading took."""
    schema_version: int = SCHEMA_VERSION


class Checksums(Struct):
    """`checksums.json`: files of a complete cell -> SHA-256."""

    files: dict[str, str]
    schema_version: int = SCHEMA_VERSION


class WorkerFile(Struct):
    """`workers/MODEL-WRITER.json`: a process that works on a model. It alone writes it, every few seconds."""

    model: str
    host: str
    pid: int
    began: float
    """Unix time, by its own clock, as all times here."""
    beat: float
    """When this was written last."""
    job: str | None = None
    """Of the scheduler that started it, such as `1234_5`; None where nobody did."""
    gpus: str | None = None
    """What it sees of the machine's, as in `CUDA_VISIBLE_DEVICES`."""
    log: str | None = None
    """Where its engine's output goes, told from the run directory."""
    share: tuple[int, int] = (0, 1)
    """(which, of how many): the share of the model's attempts that it began with."""
    loaded: float | None = None
    """When the model was loaded; None until then."""
    answered: float | None = None
    """When an attempt was finished last."""
    finished: int = 0
    """Attempts that it finished."""
    tokens: int = 0
    """Prompts and completions of these."""
    ended: Literal["done", "warned", "stopped", "failed"] | None = None
    """It did what it could; its scheduler told it that its time limit is near (SIGUSR1); it was stopped
    otherwise; an error ended it. None: it runs, or was killed."""
    problems: tuple[Caution, ...] = ()
    """What it could not measure, and why."""
    schema_version: int = SCHEMA_VERSION


class Submission(Struct):
    """`submissions/JOB.json`: jobs that were given to a scheduler."""

    launcher: str
    job: str
    """The scheduler's id: of a job array, whose elements are the models in their order."""
    models: tuple[str, ...]
    submitted: float
    """Unix time."""
    schema_version: int = SCHEMA_VERSION


class EndFile(Struct):
    """`end.json`: how the run ended, for programs."""

    name: str
    status: int
    """The exit status."""
    meaning: str
    """The status in words."""
    ended: str
    """ISO 8601, UTC."""
    cells: int
    complete: int
    """Cells of which no attempt is owed."""
    attempts: int
    finished: int
    failures: dict[str, int]
    """Kind -> attempts that could not be measured."""
    problems: tuple[str, ...]
    """What could not be measured, a sentence each."""
    schema_version: int = SCHEMA_VERSION
