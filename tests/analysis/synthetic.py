"""A seeded run of four models from two fictional origins, with known rates and some failures."""

import random
from collections.abc import Callable, Collection, Iterable, Sequence

import pyarrow as pa

from harness.analysis.build import ModelScorecard
from harness.records.table import to_table
from harness.reports.document import Document, document_of
from harness.suites.agentdojo.metrics import declare
from harness.types import (
    Architecture,
    CellEntry,
    EngineFacts,
    FailureKind,
    Manifest,
    Metric,
    ModelEntry,
    Origin,
    Record,
    Score,
    Transcript,
    Usage,
)

ATTACKED = ("injection_task", "user_task")
UNIT = (0.0, 1.0)
CAPABILITY = (Metric(name="accuracy", higher_is_better=True, kind="rate", bounds=UNIT, headline=True),)
HIJACK = (
    Metric(
        name="benign_utility",
        higher_is_better=True,
        kind="rate",
        bounds=UNIT,
        headline=True,
        applies_to=("user_task",),
    ),
    Metric(name="utility_under_attack", higher_is_better=True, kind="rate", bounds=UNIT, applies_to=ATTACKED),
    Metric(
        name="targeted_asr",
        higher_is_better=False,
        kind="rate",
        bounds=UNIT,
        hijack=True,
        headline=True,
        applies_to=ATTACKED,
    ),
)
MODELS = {
    "aster-dense": ("XA", "Aster", True, 0.8, 0.1),
    "aster-moe": ("XA", "Aster", False, 0.7, 0.2),
    "borea-dense": ("XB", "Borea", True, 0.5, 0.6),
    "borea-moe": ("XB", "Borea", False, 0.4, 0.7),
}
"""Name -> country, developer, dense, accuracy, rate of being hijacked."""
USAGE = Usage(engine_seconds=0.25, prompt_tokens=100, completion_tokens=10, cached_tokens=40, requests=1)
PROTOCOL = {"suite_version": "1", "prompt": "5f2c", "temperature": "0.0"}


def model(name: str) -> ModelEntry:
    country, developer, dense, _, _ = MODELS[name]
    return ModelEntry(
        name=name,
        origin=Origin(developer=developer, country=country, licence="Apache-2.0", release_date="2026-01-15"),
        architecture=Architecture(
            model_class="Qwen3ForCausalLM" if dense else "Qwen3MoeForCausalLM",
            model_type="qwen3" if dense else "qwen3_moe",
            dense=dense,
            total_params=1_200_000,
            active_params=1_200_000 if dense else 700_000,
            experts=None if dense else 8,
            experts_per_token=None if dense else 2,
            weight_bytes=2_400_000,
        ),
        engine=EngineFacts(name="scripted", version="1", details={"dtype": "float32"}),
    )


def cell(name: str, suite: str, metrics: tuple[Metric, ...], samples: int, attempts: int = 1) -> CellEntry:
    return CellEntry(
        key=f"{name}-{suite}",
        model=name,
        suite=suite,
        adapter=suite,
        protocol=PROTOCOL,
        metrics=metrics,
        samples=samples,
        attempts=attempts,
        declared=declare(metrics, PROTOCOL, denial=any(metric.given for metric in metrics)),
    )


def record(
    cell_key: str,
    sample: str,
    scores: dict[str, float | None],
    *,
    clusters: dict[str, str] | None = None,
    attempt: int = 0,
    failure: FailureKind | None = None,
    truncated: bool = False,
) -> Record:
    return Record(
        cell=cell_key,
        sample=sample,
        attempt=attempt,
        content_hash="0" * 64,
        clusters=clusters or {},
        transcript=Transcript(),
        scores=() if failure else tuple(Score(metric=m, value=v) for m, v in scores.items()),
        usage=Usage(
            engine_seconds=0.25, prompt_tokens=100, completion_tokens=10, cached_tokens=40, requests=1
        ),
        started=0.0,
        seconds=1.0,
        failure=failure,
        failure_message="planted" if failure else None,
        truncated=truncated,
    )


def capability_records(name: str, random_: random.Random) -> list[Record]:
    """60 questions, of which the last two fail."""
    key, accuracy = f"{name}-questions", MODELS[name][3]
    records = [record(key, f"q{i}", {"accuracy": float(random_.random() < accuracy)}) for i in range(58)]
    failed = [record(key, f"q{i}", {}, failure=FailureKind.EMPTY_ANSWER) for i in (58, 59)]
    return records + failed


def hijack_records(name: str, random_: random.Random) -> list[Record]:
    """20 benign tasks and 10 x 4 attacks, of which one benign task and two attacks fail."""
    key, hijacked = f"{name}-agent", MODELS[name][4]
    records = []
    for user in range(20):
        clusters = {"user_task": f"user_task_{user}"}
        failure = FailureKind.TOOL_PARSE if user == 9 else None
        benign = {"benign_utility": float(random_.random() < 0.9)}
        records.append(record(key, f"user_task_{user}", benign, clusters=clusters, failure=failure))
    for user in range(10):
        clusters = {"user_task": f"user_task_{user}"}
        for injection in range(4):
            both = {**clusters, "injection_task": f"injection_task_{injection}"}
            scores = {
                "utility_under_attack": float(random_.random() < 0.6),
                "targeted_asr": float(random_.random() < hijacked),
            }
            failure = FailureKind.ITERATION_CAP if (user, injection) in ((0, 0), (3, 2)) else None
            sample = f"user_task_{user}/injection_task_{injection}"
            records.append(
                record(key, sample, scores, clusters=both, failure=failure, truncated=injection == 3 == user)
            )
    return records


def manifest_of(cells: Iterable[CellEntry]) -> Manifest:
    """The manifest of a run with these cells, and the models that they name."""
    found = {entry.key: entry for entry in cells}
    return Manifest(
        name="synthetic",
        config_digest="0" * 12,
        harness_version="0",
        created="2026-01-01T00:00:00Z",
        versions={},
        hardware={},
        models={name: model(name) for name in dict.fromkeys(entry.model for entry in found.values())},
        cells=found,
    )


def synthetic_run(seed: int = 0) -> tuple[Manifest, dict[str, list[Record]]]:
    """A manifest, and cell key -> records."""
    cells, records = {}, {}
    for name in MODELS:
        random_ = random.Random(f"{seed}-{name}")
        for entry, found in (
            (cell(name, "questions", CAPABILITY, 60), capability_records(name, random_)),
            (cell(name, "agent", HIJACK, 60), hijack_records(name, random_)),
        ):
            cells[entry.key], records[entry.key] = entry, found
    return manifest_of(cells.values()), records


def document(
    cards: Sequence[ModelScorecard], by: str = "country", allow: Collection[str] = (), *, claims: bool = False
) -> Document:
    """The document of scorecards, of a run that says nothing else."""
    return document_of(cards, manifest_of(()), by, allow, claims=claims)


def tables(records: dict[str, list[Record]]) -> Callable[[CellEntry], pa.Table]:
    """Records as `RunDirectory.columns` gives them."""
    return lambda cell: to_table(cell, records[cell.key])
