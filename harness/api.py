"""The Python interface: runs as pandas data frames, and a run from a script or a notebook.

import harness

run = harness.open_run("results/demo")
run.scorecard().query("headline").pivot(index="benchmark", columns="model", values="value").plot.barh()
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.types import Manifest, Record

if TYPE_CHECKING:
    import pandas as pd

    from harness.config import RunConfig
    from harness.reports.document import Document


class Run:
    """A finished or unfinished run. Reading it runs nothing that it names."""

    def __init__(self, path: Path) -> None:
        """Raises UserError if there is no run at `path`."""
        self.path = path
        self._directory = RunDirectory(path)
        self.manifest: Manifest = self._directory.whole_manifest()
        """Models, cells with their protocols, versions, hardware."""

    def __repr__(self) -> str:
        cells, models = len(self.manifest.cells), len(self.manifest.models)
        return f"<Run {self.manifest.name!r}: {models} models, {cells} cells, {self.path}>"

    def scores(self) -> "pd.DataFrame":
        """One row for every score of every attempt; a failed attempt has one row without metric and value.

        Columns: model, developer, country, suite, sample, attempt, metric, value, higher_is_better, booking,
        answer, failure, truncated, engine_seconds, prompt_tokens, completion_tokens, cached_tokens,
        reasoning_tokens, requests, clusters, labels (`exports.tabular.COLUMNS`). What is not known is
        missing, never 0.
        """
        import pandas as pd
        import pyarrow as pa

        from harness.exports.tabular import schema, tables

        table = pa.concat_tables([schema().empty_table(), *tables(self._directory)])
        # Plain NaN for numbers, but a count that is not known stays an integer column's missing value.
        frame: pd.DataFrame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        return frame

    def document(self, by: str = "country", allow: Collection[str] = ()) -> "Document":
        """Everything that the run says, as `harness scorecard --format json` has it.

        Args:
            by: what an origin is: country, developer, base, licence, type or size.
            allow: protocol fields that may differ between models.

        Raises:
            UserError: the records are damaged, `by` is unknown, or protocols differ.
        """
        from harness.reports.document import make_document

        return make_document(self.manifest, self._directory.columns, by, allow, self._directory.each_record)

    @cached_property
    def _document(self) -> "Document":
        return self.document()

    def scorecard(self) -> "pd.DataFrame":
        """One row for every metric of every model, with its 95% interval.

        Columns: model, developer, country, benchmark, metric, headline, higher_is_better, value, low, high,
        low_same_tasks, high_same_tasks (where tasks were tried more than once: what running the same tasks
        again would give), n, missing, clusters, method.
        """
        return _frame(_METRICS, self._metric_rows())

    def _metric_rows(self) -> Iterator[tuple[Any, ...]]:
        for card in self._document.models:
            model = card.model
            for result in card.metrics.values():
                estimate, same = result.estimate, result.estimate.same_tasks
                yield (
                    *(model.name, model.origin.developer, model.origin.country, result.suite),
                    *(result.metric.name, result.metric.headline, result.metric.higher_is_better),
                    *(estimate.value, estimate.low, estimate.high),
                    *((same.low, same.high) if same else (None, None)),
                    *(estimate.n, estimate.missing, estimate.clusters, estimate.method),
                )

    def origins(self, by: str = "country") -> "pd.DataFrame":
        """One row for every headline metric of every pair of origins: their best models compared, paired.

        Columns: origin, other, benchmark_metric, best_model, other_best_model, value, other_value,
        difference, low, high, models, other_models, method. `difference` is of `origin` less `other`.
        """
        document = self._document if by == "country" else self.document(by)
        return _frame(
            _GAPS,
            (
                (
                    *(gap.origin, gap.comparison.other, gap.comparison.key),
                    *(gap.comparison.best_model, gap.comparison.other_best_model),
                    *(gap.comparison.value.value, gap.comparison.other_value.value),
                    *(
                        gap.comparison.estimate.value,
                        gap.comparison.estimate.low,
                        gap.comparison.estimate.high,
                    ),
                    *(gap.comparison.models, gap.comparison.other_models, gap.comparison.estimate.method),
                )
                for gap in document.gaps
            ),
        )

    def divergences(self, base: str) -> "pd.DataFrame":
        """How far the answers of other models are from the base's: one row for each multiple-choice suite.

        Columns: model, suite; kl, low, high (mean over questions of the Kullback-Leibler divergence, in nats,
        with its 95% interval; the distributions are over the options of a question, since records hold
        nothing of other tokens); same_choice, same_low, same_high (share of questions with the same likeliest
        option); n, missing.

        Args:
            base: the model that others are compared with, such as the one in full precision.

        Raises:
            UserError: the run has no such model, or no multiple-choice suite of it.
        """
        from harness.analysis.divergence import diverge, has_options, options_of

        cells = {(c.model, c.suite): c for c in self.manifest.cells.values() if has_options(c)}
        read = {key: options_of(self._directory.each_record(cell)) for key, cell in cells.items()}
        if not any(model == base for model, _ in cells):
            known = ", ".join(sorted({model for model, _ in cells})) or "none"
            raise UserError(
                f"{self.path} has no multiple-choice suite of {base!r}: models with one are {known}"
            )
        divergences = [
            (model, suite, diverge(read[base, suite], options))
            for (model, suite), options in read.items()
            if model != base
            and (base, suite) in read
            and cells[base, suite].protocol == cells[model, suite].protocol
        ]
        return _frame(
            _DIVERGENCES,
            (
                (
                    *(model, suite, one.kl.value, one.kl.low, one.kl.high),
                    *(one.same_choice.value, one.same_choice.low, one.same_choice.high),
                    *(one.kl.n, one.kl.missing),
                )
                for model, suite, one in divergences
            ),
        )

    def attempt(self, pair: str, model: str | None = None, attempt: int = 0) -> Record:
        """One attempt with its conversation and scores.

        Args:
            pair: `<suite>/<sample>`.
            model: whose; may be left out where there is but one.
            attempt: which, from 0.

        Raises:
            UserError: there is no such attempt.
        """
        from harness.show.view import find

        return find(self._directory, pair, model, attempt)[-1]

    def attempts(self, suite: str, model: str) -> Iterator[Record]:
        """The attempts of one model at one suite, one after the other.

        Raises:
            UserError: the run has no such cell.
        """
        for cell in self.manifest.cells.values():
            if (cell.suite, cell.model) == (suite, model):
                return self._directory.each_record(cell)
        known = sorted({f"{cell.suite} of {cell.model}" for cell in self.manifest.cells.values()})
        raise UserError(f"{self.path} has no {suite} of {model}: it has {', '.join(known)}")


class Root:
    """A folder of run directories."""

    def __init__(self, path: Path) -> None:
        """Raises UserError if no run lies right below `path`."""
        self.path = path
        folders = sorted({file.parent for name in _OF_A_RUN for file in path.glob(f"*/{name}")})
        self.runs = {folder.name: Run(folder) for folder in folders}
        """Name of the folder -> run."""
        if not self.runs:
            raise UserError(f"{path} holds no run: give a folder of folders that `harness run` wrote")

    def __repr__(self) -> str:
        return f"<Root of {len(self.runs)} runs, {self.path}>"

    def scores(self) -> "pd.DataFrame":
        """As `Run.scores` of all runs, with the column `run` in front."""
        return self._together({name: run.scores() for name, run in self.runs.items()})

    def scorecard(self) -> "pd.DataFrame":
        """As `Run.scorecard` of all runs, with the column `run` in front."""
        return self._together({name: run.scorecard() for name, run in self.runs.items()})

    def _together(self, frames: "dict[str, pd.DataFrame]") -> "pd.DataFrame":
        import pandas as pd

        return pd.concat(frames, names=["run", None]).reset_index(level="run").reset_index(drop=True)


_OF_A_RUN = ("run.json", "manifest.json")
"""Files of which a run directory has one."""
_METRICS: dict[str, str] = {
    **dict.fromkeys(("model", "developer", "country", "benchmark", "metric"), "object"),
    **dict.fromkeys(("headline", "higher_is_better"), "boolean"),
    **dict.fromkeys(("value", "low", "high", "low_same_tasks", "high_same_tasks"), "float64"),
    **dict.fromkeys(("n", "missing", "clusters"), "int64"),
    "method": "object",
}
_GAPS: dict[str, str] = {
    **dict.fromkeys(("origin", "other", "benchmark_metric", "best_model", "other_best_model"), "object"),
    **dict.fromkeys(("value", "other_value", "difference", "low", "high"), "float64"),
    **dict.fromkeys(("models", "other_models"), "int64"),
    "method": "object",
}
_DIVERGENCES: dict[str, str] = {
    **dict.fromkeys(("model", "suite"), "object"),
    **dict.fromkeys(("kl", "low", "high", "same_choice", "same_low", "same_high"), "float64"),
    **dict.fromkeys(("n", "missing"), "int64"),
}
"""Column -> type."""


def _frame(columns: dict[str, str], rows: Iterable[tuple[Any, ...]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(columns)).astype(columns)


def evaluate(
    config: str | Path | Mapping[str, Any], out: str | Path | None = None, overrides: Sequence[str] = ()
) -> Run:
    """Run a config on this machine, as `harness run` does, in a script or a notebook; returns the run.

    What was finished before is not run again. What could not be measured is said, as everything is that
    happens, and missing in the run.

    Args:
        config: the file of a run config, the name of one that ships with the harness, or what such a file
            would say. Relative paths of the last are of the working directory.
        out: where results go. Default: `results/<name>-<digest of the config>`.
        overrides: `key=value`, as on the command line.

    Raises:
        UserError: the config is wrong, or nothing of it can be measured.
    """
    from rich.console import Console

    from harness import config as configs
    from harness.models.forecast import machine_gpus
    from harness.run.launchers import open_launcher
    from harness.run.progress import LiveProgress
    from harness.run.runner import plan_run, run

    path, asked = _read_config(config, overrides)
    directory = RunDirectory(Path(out) if out else Path("results") / f"{asked.name}-{configs.digest(asked)}")
    asked = directory.dated(asked)
    there = machine_gpus() if asked.engine.kind == "vllm" else []
    gpus = [gpu.uuid for gpu in there]
    plan = plan_run(asked, path, [gpu.sized for gpu in there])
    plan.check()
    with directory.lock(), LiveProgress(Console()) as progress:
        directory.prepare(asked)
        _beside_any_loop(lambda: run(plan, directory, progress, open_launcher(None, None, gpus)))
        progress.close()
        for text in dict.fromkeys(problem.text for problem in plan.problems):
            progress.note(text)
    return Run(directory.path)


def _read_config(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str]
) -> "tuple[Path, RunConfig]":
    """(its file, the config). One that is given as what a file would say has none, and so no lock."""
    import tempfile

    import yaml

    from harness.config import load_config

    if not isinstance(config, Mapping):
        return Path(config), load_config(Path(config), overrides)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf8")
        return path, load_config(path, overrides, Path.cwd())


def _beside_any_loop(function: Callable[[], object]) -> None:
    """Call what runs an event loop of its own: in a notebook there is one already, in this thread."""
    import asyncio
    import threading

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        function()
        return
    raised: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, name="evaluate")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def open_run(path: str | Path) -> Run:
    """A run directory. Raises UserError if it is none."""
    return Run(Path(path))


def open_root(path: str | Path) -> Root:
    """A folder of run directories. Raises UserError if it holds none."""
    return Root(Path(path))
