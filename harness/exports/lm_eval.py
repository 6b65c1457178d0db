"""What lm-eval writes: `results_<time>.json` and `samples_<task>_<time>.jsonl`, a folder a model.

As in lm-eval there is a line for every document and filter, `doc_id` is the document's, members of a group go
by the names of their tasks, and standard errors are lm-eval's (`errors.py`). lm-eval knows no missing scores:
failed attempts have no line, and `n-samples` says how many were measured. What is of the checkpoint (chat
template, tokens of the tokenizer) is there where the one that was run is on this machine.
"""

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import msgspec

from harness.analysis.benchmarks import by_benchmark
from harness.analysis.build import ModelScorecard, build_scorecards
from harness.config import ModelSpec
from harness.disk import replace
from harness.errors import UserError
from harness.exports.inspect import target_of
from harness.exports.names import file_names
from harness.exports.prompts import Prompts
from harness.exports.standard_errors import ITERATIONS, NOT_KNOWN, standard_error
from harness.forked import forked
from harness.memory import free_bytes, within_memory
from harness.models import checkpoint
from harness.suites.lm_eval.metrics import items_of
from harness.suites.lm_eval.suite import Item, LmEvalSuite
from harness.suites.lm_eval.tasks import NUMPY_SEED, RANDOM_SEED
from harness.suites.restore import Restored, load_tokenizer
from harness.types import CellEntry, Metric, ModelEntry, Record, Sample, Score, Struct, SuiteGroup

NO_FILTER = "none"
"""lm-eval's name of the filter of a task that states none."""
COPIED = 1 << 20
"""Bytes that are copied at once."""
VLLM_SEED = 0
"""vLLM's own where a config states none."""
MANY, PROCESSES = 100_000, 2
"""Attempts from which on lines are written by processes beside this one, and how many of these."""


def write(run: Restored, out: Path) -> list[Path]:
    """Write results and samples of every model."""
    manifest, time = run.manifest, run.manifest.created.replace(":", "-")
    folders = file_names(sorted(manifest.models))
    tasks = {model: _by_task([c for c in manifest.cells.values() if c.model == model]) for model in folders}
    samples: dict[str, Path] = {}
    for model, folder in folders.items():
        (out / folder).mkdir(parents=True, exist_ok=True)
        for task, name in file_names(tasks[model]).items():
            samples[tasks[model][task].key] = out / folder / f"samples_{name}_{time}.jsonl"
    cards, hashes, prompts = _write_all_samples(run, samples)
    paths = []
    for card in cards:
        name = card.model.name
        cells, path = tasks[name], out / folders[name] / f"results_{time}.json"
        results = _results(run, card, cells, folders[name])
        results["task_hashes"] = {task: hashes[cell.key] for task, cell in cells.items()}
        replace(path, json.dumps(results, indent=2, ensure_ascii=False, default=str).encode())
        paths += [path, *(samples[cell.key] for cell in cells.values())]
    return prompts.whole(paths)


def _write_all_samples(
    run: Restored, paths: Mapping[str, Path]
) -> tuple[list[ModelScorecard], dict[str, str], Prompts]:
    """Write the lines of every cell, many of them by processes beside this one.

    Returns:
        (scorecards, which are made meanwhile; key of a cell -> hash of its lines; what prompts are lacking).
    """
    cells = [*run.manifest.cells.values()]
    many = sum(cell.samples * cell.attempts for cell in cells) >= MANY
    if many:  # suites are loaded once, before there are several processes
        _suite(run, cells[0])
    parts = [cells[first::PROCESSES] for first in range(PROCESSES)] if many else [cells]
    share = free_bytes() // PROCESSES if many else None
    works = [partial(_write_cells, run, part, paths, share) for part in parts]
    hashes: dict[str, str] = {}
    prompts = Prompts(run)
    with ExitStack() as stack:
        answers = [stack.enter_context(forked(work)) for work in works] if many else works
        cards = build_scorecards(run.manifest, run.directory.columns, processes=1)
        for answer in answers:
            written, lacking = answer()
            hashes |= written
            prompts.lacking |= lacking
    return cards, hashes, prompts


def _write_cells(
    run: Restored, cells: Iterable[CellEntry], paths: Mapping[str, Path], share: int | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Write the lines of some cells.

    Args:
        run: that they are of.
        cells: which.
        paths: key of a cell -> file of its lines.
        share: bytes of memory that this may take; None is all that is free.

    Returns:
        (key of a cell -> hash of its lines, suite -> why it has no prompts).
    """
    prompts = Prompts(run)
    with within_memory(share):
        hashes = {cell.key: _write_samples(run, cell, prompts, paths[cell.key]) for cell in cells}
    return hashes, prompts.lacking


def _by_task(cells: Sequence[CellEntry]) -> dict[str, CellEntry]:
    """Cells by lm-eval's names: members of a group go by their task's, where no other suite does."""
    names = [
        task if cell.suite.endswith(f"/{task}") else cell.suite
        for cell in cells
        for task in [cell.protocol.get("task", cell.suite)]
    ]
    return {
        name if names.count(name) == 1 else cell.suite: cell for name, cell in zip(names, cells, strict=True)
    }


def _results(
    run: Restored, card: ModelScorecard, cells: Mapping[str, CellEntry], sanitized: str
) -> dict[str, Any]:
    model, tasks = card.model, {cell.suite: task for task, cell in cells.items()}
    spec, template = _checkpoint(run, model)
    template = template if _shared(cells.values(), "apply_chat_template") == "True" else None
    numbers: dict[str, dict[str, Any]] = {
        task: {"name": task, "alias": task, "sample_len": card.cells[cell.suite].finished}
        for task, cell in cells.items()
    }
    better: dict[str, dict[str, bool | None]] = {task: {} for task in cells}
    for result in (*card.metrics.values(), *card.members.values()):
        # Samples here are attempts that did not fail; a benchmark of several suites has rows of its groups.
        if result.suite in tasks and result.estimate.value is not None and not result.metric.booking:
            (name, under), task = named(result.metric), tasks[result.suite]
            numbers[task][f"{name},{under}"] = result.estimate.value
            numbers[task][f"{name}_stderr,{under}"] = standard_error(result)
            better[task][name] = result.metric.higher_is_better
    here = [group for group in run.manifest.groups if set(group.members) <= tasks.keys()]
    called = _group_names(here, tasks.values())
    groups = _groups(run, card, tasks, numbers, called)
    children = {called[group.name]: _children(group, here, called, tasks) for group in here}
    shots = {task: _shots(cell) for task, cell in cells.items()}
    _pass_up(children, shots, better)
    versions = {called[group.name]: group.version for group in here if group.version is not None}
    return {
        "results": {**numbers, **groups},
        **({"groups": groups} if groups else {}),
        "group_subtasks": children,
        "configs": _sorted({task: _config(run, task, cell) for task, cell in cells.items()}),
        "versions": _sorted({task: _version(cell) for task, cell in cells.items()} | versions),
        "n-shot": _sorted(shots),
        "higher_is_better": _sorted(better),
        "n-samples": {
            task: {
                "original": _documents(run, cell),
                "effective": card.cells[cell.suite].finished - sum(card.cells[cell.suite].failures.values()),
            }
            for task, cell in cells.items()
        },
        "config": {
            "model": model.engine.name if model.engine else "unknown",
            "model_args": {"pretrained": model.name},
            "batch_size": "auto",
            "batch_sizes": [],
            "device": None,
            "use_cache": None,
            "limit": _whole(_shared(cells.values(), "limit")),
            "bootstrap_iters": ITERATIONS,
            "gen_kwargs": None,
            **_seeds(run, model, cells.values()),
            "fewshot_seed": _whole(_shared(cells.values(), "fewshot_seed")),
        },
        "git_hash": run.manifest.git_hash,
        "pretty_env_info": "\n".join(f"{name} {at}" for name, at in run.manifest.versions.items()),
        "upper_git_hash": None,
        **({} if spec is None else _tokenizer(spec, model)),
        "date": datetime.fromisoformat(run.manifest.created).timestamp(),
        "lm_eval_version": run.manifest.versions.get("lm-eval", "unknown"),
        "transformers_version": run.manifest.versions.get("transformers", "unknown"),
        "model_source": model.engine.name if model.engine else "unknown",
        "model_name": model.name,
        "model_name_sanitized": sanitized,
        "system_instruction": (system := _shared(cells.values(), "system_instruction")),
        "system_instruction_sha": None if system is None else sha256(system),
        "fewshot_as_multiturn": _shared(cells.values(), "fewshot_as_multiturn") == "True",
        "chat_template": template,
        "chat_template_sha": None if template is None else sha256(template),
        "total_evaluation_time_seconds": None if model.imported else str(card.usage.engine_seconds),
    }


def _seeds(run: Restored, model: ModelEntry, cells: Iterable[CellEntry]) -> dict[str, int | None]:
    """What Python's, numpy's and torch's generators were seeded with; None where nobody knows.

    torch's is that of the process which holds the weights.
    """
    seeded = all(cell.adapter == "lm_eval" for cell in cells)
    spec, engine = _spec(run, model), model.engine
    args = {"seed": VLLM_SEED, **run.config.engine.args, **spec.engine_args} if spec else {}
    return {
        "random_seed": RANDOM_SEED if seeded else None,
        "numpy_seed": NUMPY_SEED if seeded else None,
        "torch_seed": args.get("seed") if engine is not None and engine.name == "vllm" else None,
    }


def _spec(run: Restored, model: ModelEntry) -> ModelSpec | None:
    """What the config says of a model."""
    try:
        return next((spec for spec in run.config.models if spec.name == model.name), None)
    except UserError:
        return None


def _checkpoint(run: Restored, model: ModelEntry) -> tuple[ModelSpec | None, str | None]:
    """(A model, its chat template), if the checkpoint here is the one that was run."""
    spec = _spec(run, model)
    if spec is None or model.architecture is None:
        return None, None
    try:
        folder = checkpoint.find(spec)
        text = None if folder is None else checkpoint.chat_template(folder)
    except UserError:
        return None, None
    same = folder is not None and checkpoint.template_hash(text) == model.architecture.chat_template_hash
    return (spec, text) if same else (None, None)


def _tokenizer(spec: ModelSpec, model: ModelEntry) -> dict[str, Any]:
    """What lm-eval says of a tokenizer and its model's limit, as of its own model `vllm`."""
    from lm_eval.loggers.utils import add_tokenizer_info
    from lm_eval.models.utils import configure_pad_token

    try:
        tokenizer = configure_pad_token(load_tokenizer(spec))
    except UserError:
        return {}
    length = _whole(model.engine.details.get("max_model_len")) if model.engine else None
    if length is None and model.architecture is not None:
        length = model.architecture.context_length
    told: dict[str, Any] = {}
    asked = SimpleNamespace(tokenizer=tokenizer, eot_token_id=tokenizer.eos_token_id, max_length=length)
    add_tokenizer_info(told, asked)
    return told


def named(metric: Metric) -> tuple[str, str]:
    """(lm-eval's name of a metric, the filter that it is under)."""
    name, _, under = metric.name.partition(",")
    return name, under or metric.filter or NO_FILTER


def _sorted(rows: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(rows.items()))


def _group_names(groups: Sequence[SuiteGroup], tasks: Iterable[str]) -> dict[str, str]:
    """Group -> lm-eval's name of it: inner ones go by their own, where no other row does."""
    short = {group.name: group.name.rpartition("/")[2] for group in groups}
    taken = Counter([*short.values(), *tasks])
    return {name: own if taken[own] == 1 else name for name, own in short.items()}


def _children(
    group: SuiteGroup, groups: Sequence[SuiteGroup], called: Mapping[str, str], tasks: Mapping[str, str]
) -> list[str]:
    """The groups and tasks right inside of a group, in lm-eval's order, by lm-eval's names."""
    inner = {other.name: other.members for other in groups if other.name in group.subgroups}
    first = {members[0]: called[name] for name, members in inner.items()}
    deeper = {suite for members in inner.values() for suite in members}
    return [
        first.get(suite, tasks[suite]) for suite in group.members if suite in first or suite not in deeper
    ]


def _pass_up(
    children: Mapping[str, Sequence[str]], shots: dict[str, int], better: dict[str, dict[str, bool | None]]
) -> None:
    """Give groups what their members share, the outermost first, as lm-eval does."""
    for group, members in children.items():
        counts = {shots[member] for member in members if member in shots}
        if len(counts) == 1:
            shots[group] = counts.pop()
        shared: dict[str, bool | None] = {}
        for metric, higher in ((m, h) for member in members for m, h in better.get(member, {}).items()):
            shared[metric] = higher if shared.get(metric, higher) == higher else None
        if shared:
            better[group] = shared


def _shared(cells: Iterable[CellEntry], key: str) -> str | None:
    """What all cells have in their protocol under a key; None where they differ or have none."""
    values = {cell.protocol.get(key, "none") for cell in cells}
    only = values.pop() if len(values) == 1 else "none"
    return None if only in ("none", "None") else only


def _whole(number: str | None) -> int | None:
    return int(number) if number and number.isdecimal() else None


def _groups(
    run: Restored,
    card: ModelScorecard,
    tasks: Mapping[str, str],
    numbers: Mapping[str, Mapping[str, Any]],
    called: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """A row for every group that lm-eval averages, from the rows of its tasks."""
    from lm_eval.api.metrics import pooled_sample_stderr, unweighted_mean_stderr

    averages: dict[str, float | None] = {}
    for whole in by_benchmark([card], run.manifest)[0].suites.values():
        averages |= whole.group_averages
    rows: dict[str, dict[str, Any]] = {}
    for group in run.manifest.groups:
        row: dict[str, Any] = {}
        counts: dict[str, int] = {}
        for metric in group.metrics:
            if (value := averages.get(f"{group.name}/{metric.name}")) is None:
                continue
            name, _, under = metric.name.partition(",")
            key, under = f"{name},{under or NO_FILTER}", f"{name}_stderr,{under or NO_FILTER}"
            sizes = [numbers[tasks[suite]]["sample_len"] for suite in metric.members]
            errors = [numbers[tasks[suite]].get(under, NOT_KNOWN) for suite in metric.members]
            error: float | str = NOT_KNOWN
            if NOT_KNOWN not in errors:
                pooled = pooled_sample_stderr(errors, sizes) if metric.weight_by_size else None
                error = float(unweighted_mean_stderr(errors) if pooled is None else pooled)
            row |= {key: value, under: error}
            counts[key] = sum(sizes)
        if row:
            size = sum(numbers[tasks[suite]]["sample_len"] for suite in group.members)
            name = called[group.name]
            about = {"name": name, "alias": name, "sample_len": size}
            rows[name] = about | row | {"sample_count": counts}
    return rows


def _documents(run: Restored, cell: CellEntry) -> int:
    """How many documents the task has, those beyond a limit included."""
    if cell.adapter != "lm_eval" or cell.protocol.get("limit", "None") == "None":
        return cell.samples * cell.attempts
    suite = _suite(run, cell)
    return (cell.samples if suite is None else suite.documents) * cell.attempts


def _suite(run: Restored, cell: CellEntry) -> LmEvalSuite | None:
    """The task of a cell, None where it is not lm-eval's or its data are not here."""
    try:
        suite = run.suite(cell)
    except UserError:
        return None
    return suite if isinstance(suite, LmEvalSuite) else None


def _config(run: Restored, task: str, cell: CellEntry) -> dict[str, Any]:
    """What lm-eval logs of a task, as far as it can be made again, and the protocol."""
    suite = _suite(run, cell)
    stated = {} if suite is None else suite.task_config()
    own = {
        "task": task,
        "dataset_path": stated.get("dataset_path") or cell.protocol.get("dataset_path", cell.suite),
        "output_type": cell.protocol.get("output_type", "generate_until"),
        "repeats": cell.attempts,
        "metadata": cell.protocol | (stated.get("metadata") or {}),
    }
    return stated | own


def _version(cell: CellEntry) -> str | float:
    version = cell.protocol.get("task_version") or cell.protocol.get("benchmark_version") or "0"
    return int(version) if version.isdecimal() else version


def _shots(cell: CellEntry) -> int:
    shots = cell.protocol.get("num_fewshot", "0")
    return int(shots) if shots.isdecimal() else 0


def _write_samples(run: Restored, cell: CellEntry, made: Prompts, path: Path) -> str:
    """A line for every filter and attempt that did not fail, in the order of filters, documents, attempts.

    Records come in the order of their names: lines are written as they come, then put in order by where they
    lie, so that no more than their places are in memory. Returns the hash of them all.
    """
    metrics = {metric.name: named(metric)[1] for metric in cell.metrics if not metric.booking}
    suite, encode = _suite(run, cell), msgspec.json.Encoder(enc_hook=str).encode
    ranks = {name: number for number, name in enumerate(sorted(run.directory.samples(cell)))}
    with ExitStack() as stack:
        file = stack.enter_context(path.open("wb"))
        kept = {
            under: (stack.enter_context(tempfile.TemporaryFile(dir=path.parent)), list[Place]())
            for under in metrics.values()
        }
        ends = dict.fromkeys(kept, 0)
        for record in run.records(cell):
            if record.failure is not None:
                continue
            doc_id = int(record.sample) if record.sample.isdecimal() else ranks[record.sample]
            likely = _likelihoods(record, suite)
            common = _line(record, doc_id, made.sample(cell, record), suite, target_of(cell, record), likely)
            for under, (lines, places) in kept.items():
                scores = [score for score in record.scores if metrics.get(score.metric) == under]
                places.append((doc_id, record.attempt, ends[under]))
                ends[under] += lines.write(
                    encode({**common, "filter": under, **_scores(scores, likely)}) + b"\n"
                )
        for lines, places in kept.values():
            _in_order(lines, places, file)
    return _task_hash(path)


Place = tuple[int, int, int]
"""(document, attempt, where its line begins)."""


def _in_order(lines: IO[bytes], places: list[Place], out: IO[bytes]) -> None:
    """Copy lines by document and attempt."""
    lines.seek(0)
    if all(before < after for before, after in pairwise(places)):
        shutil.copyfileobj(lines, out, COPIED)
        return
    for *_, place in sorted(places):
        lines.seek(place)
        out.write(lines.readline())


class _Hashes(Struct, forbid_unknown_fields=False):
    """Of a line, what the hash of a task is made of."""

    doc_hash: str
    target_hash: str
    prompt_hash: str | None = None


def _task_hash(path: Path) -> str:
    """As lm-eval makes it of the lines of a task."""
    whole, decoder = hashlib.sha256(), msgspec.json.Decoder(_Hashes)
    with path.open("rb") as lines:
        for line in lines:
            of = decoder.decode(line)
            whole.update(f"{of.doc_hash}{of.prompt_hash or ''}{of.target_hash}".encode())
    return whole.hexdigest()


def _likelihoods(record: Record, suite: LmEvalSuite | None) -> list[Any]:
    """As lm-eval's model gave them: of whole texts it says nothing but the number."""
    likely = record.transcript.loglikelihoods
    if suite is not None and suite.output_type == "loglikelihood_rolling":
        return [str(x.logprob) for x in likely]
    return [[str(x.logprob), str(x.is_greedy)] for x in likely]


def _scores(scores: Sequence[Score], likely: list[Any]) -> dict[str, Any]:
    """What one filter made of the replies, and its scores."""
    answers = [score.answer for score in scores if score.answer is not None]
    by_metric: dict[str, Any] = {}
    for score in scores:
        value = score.value if score.operands is None else items_of([score.operands])[0]
        if value is not None:
            by_metric[score.metric.partition(",")[0]] = value
    return {"filtered_resps": likely or answers[:1], "metrics": list(by_metric), **by_metric}


def _line(
    record: Record,
    doc_id: int,
    sample: Sample | None,
    suite: LmEvalSuite | None,
    target: str,
    likely: list[Any],
) -> dict[str, Any]:
    """What the lines of all filters have."""
    transcript = record.transcript
    asked = "\n\n".join(m.content for m in transcript.messages if m.role in ("system", "user"))
    item = sample.payload if sample is not None and isinstance(sample.payload, Item) else None
    arguments = [list(instance.args) for instance in item.instances] if item else [[asked]] if asked else []
    # lm-eval logs what its filters read.
    replies: list[Any] = [[reply.raw if item is None else reply.text] for reply in transcript.generations]
    replies += [[one] for one in likely]
    if suite is not None and item is not None:
        target = suite.target(item.doc)
    if item is None:
        doc = {"id": record.sample, "attempt": record.attempt, **record.clusters, **record.labels}
        text = msgspec.json.format(msgspec.json.encode(doc))  # the same of texts, in a tenth of the time
    else:
        doc = item.doc
        text = json.dumps(doc, indent=2, default=str, ensure_ascii=False).encode()
    return {
        "doc_id": doc_id,
        "doc": doc,
        "target": target,
        "arguments": {
            f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(parts)}
            for i, parts in enumerate(arguments)
        },
        "resps": replies,
        "filtered_resps": [],
        "filter": NO_FILTER,
        "metrics": [],
        "doc_hash": hashlib.sha256(text).hexdigest(),
        "prompt_hash": sha256(str(arguments[0][0])) if arguments else None,
        "target_hash": sha256(target),
    }


def sha256(text: str) -> str:
    """As lm-eval hashes what it logs."""
    return hashlib.sha256(text.encode()).hexdigest()
