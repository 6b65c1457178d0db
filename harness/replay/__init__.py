"""Scoring transcripts that exist already, without a model."""

from collections.abc import Mapping
from pathlib import Path

from harness.errors import UserError
from harness.replay.report import Report


def replay(
    path: Path,
    out: Path | None = None,
    *,
    version: str | None = None,
    developer: str | None = None,
    country: str | None = None,
    suites: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    run_programs: bool = False,
) -> Report:
    """Score a run directory of this harness, or transcripts of AgentDojo's own benchmark.

    Args:
        path: the directory, or a file or folder that AgentDojo wrote.
        out: keep AgentDojo's runs as records here: a new run directory, or one that they are to stand in.
        version: AgentDojo's benchmark version, for files that do not say it.
        developer: of the models that AgentDojo ran.
        country: of that developer, ISO 3166-1 alpha-2.
        suites: name in the transcripts -> `package.module:task_suite` or `./file.py:task_suite`, of suites
            that AgentDojo does not have.
        names: pipeline -> how its model is to be called here; `""` for the only pipeline there is.
        run_programs: whether to run programs that a model wrote, where that is how a suite scores.

    Raises:
        UserError: there is nothing to replay, or what there is cannot be read or scored.
    """
    from harness.records.directory import RunDirectory
    from harness.replay.run_directory import replay_run
    from harness.replay.transcripts import UNKNOWN_ORIGIN, replay_imported
    from harness.types import Origin

    if not path.exists():
        raise UserError(f"there is no {path}: give a folder with records, or with AgentDojo's transcripts")
    if not RunDirectory(path).is_run:
        origin = Origin(
            developer=developer or UNKNOWN_ORIGIN.developer, country=country or UNKNOWN_ORIGIN.country
        )
        kept = None if out is None else RunDirectory(out)
        return replay_imported(path, kept, version=version, origin=origin, suites=suites, names=names)
    if out is not None:
        raise UserError(f"{path} holds records already: --out is for transcripts of AgentDojo's own runs")
    return replay_run(RunDirectory(path), suites, run_programs=run_programs)
