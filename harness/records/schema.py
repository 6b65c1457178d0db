"""What the JSON files of a run directory hold, but for records."""

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
