"""The document as JSON, as `scorecard.schema.json` says: one object, with the version of its shape."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from harness.analysis.build import MetricResult, ModelScorecard
from harness.analysis.claims import Claims
from harness.analysis.comparability import Differences, Setting
from harness.analysis.compare import GuardrailChange
from harness.analysis.injection_tasks import InjectionTaskResult
from harness.analysis.origins import Compared, OriginScorecard
from harness.analysis.pooled import Pooled, PooledRate
from harness.analysis.variants import Ways
from harness.reports import tables, text
from harness.reports.differences import sentences_of
from harness.reports.document import VERSION, Document
from harness.types import Estimate, Metric, ModelEntry, Usage


def document_object(document: Document) -> dict[str, Any]:
    """The JSON object of a document. Measured times and costs stand under keys `cost`, and nowhere else."""
    return {
        "schema": "harness-scorecard",
        "version": VERSION,
        "run": {
            "name": document.name,
            "created": document.created,
            "config_digest": document.config_digest,
            "harness_version": document.versions["harness"],
            "hardware": document.hardware,
        },
        "by": document.by,
        "models": [_model_object(card) for card in document.models],
        "origins": [_origin_object(origin) for origin in document.origins],
        "comparisons": [
            *(comparison_object(gap, "gap") for gap in (*document.overall, *document.gaps)),
            *(comparison_object(ratio, "risk_ratio") for ratio in document.ratios),
        ],
        **({"variants": [_ways_object(ways, document) for ways in document.ways]} if document.ways else {}),
        **({"defences": _defences_object(document)} if document.defences else {}),
        **({"transfers": _transfers_object(document)} if document.transfers else {}),
        **({"agents": _agents_object(document)} if document.agents else {}),
        "claims": None if document.claims is None else claims_object(document.claims),
        "claims_problem": document.claims_problem,
        "protocols": [_setting_object(setting) for setting in document.protocols],
        "engines": [_setting_object(setting) for setting in document.engines],
        "allowances": [_setting_object(setting) for setting in document.allowances],
        "differences": list(sentences_of(document.differences)),
        "versions": document.versions,
        "cautions": [msgspec.structs.asdict(caution) for caution in document.cautions],
    }


def _ways_object(ways: Ways, document: Document) -> dict[str, Any]:
    """A row a model: what was varied, and what it changes against the first, by column of the summary."""
    names = [column.metric.name for column in document.summary.columns]
    return {
        "model": ways.model,
        "varied": {field: list(values) for field, values in ways.varied.items()},
        "follows": list(ways.follows),
        "ways": [
            {
                "model": way.row.card.model.name,
                "values": way.values,
                "changes": {
                    name: estimate_object(change)
                    for name, change in zip(names, way.changes, strict=True)
                    if change is not None
                },
                "kl": None if way.divergence is None else estimate_object(way.divergence.kl),
                "same_choice": None
                if way.divergence is None
                else estimate_object(way.divergence.same_choice),
            }
            for way in ways.ways
        ],
    }


def _defences_object(document: Document) -> list[dict[str, Any]]:
    """A block a benchmark, attack and model: its suites that differ in the defence."""
    return [
        {
            "model": model,
            "suites": [
                {
                    "suite": one.suite.suite,
                    "defence": one.defence,
                    "change": None if one.change is None else estimate_object(one.change),
                }
                for one in block
            ],
        }
        for model, blocks in document.defences.items()
        for block in blocks
    ]


def _transfers_object(document: Document) -> list[dict[str, Any]]:
    """A row for the texts of one attacker."""
    return [
        {
            "benchmark": row.benchmark,
            "attack": row.attack,
            "attacker": row.attacker,
            "found_on": row.found_on,
            "tried_on": {model: estimate_object(one.estimate) for model, one in row.tried_on.items()},
        }
        for row in document.transfers
    ]


def _agents_object(document: Document) -> list[dict[str, Any]]:
    """A row a model over all of its suites that offer tools, then one a suite where there are several."""

    def known(estimate: Estimate | None) -> dict[str, Any] | None:
        return None if estimate is None else estimate_object(estimate)

    return [
        {
            "model": model,
            "suites": list(one.suites),
            "utility": known(one.utility),
            "parse_failures": known(one.parse_failures),
            "calls": known(one.calls),
            "cost": {
                "tokens_per_solved": known(one.tokens_per_solved),
                "seconds_per_solved": known(one.seconds_per_solved),
            },
        }
        for model, cards in document.agents.items()
        for one in cards
    ]


def _setting_object(setting: Setting) -> dict[str, Any]:
    return {
        "field": setting.field,
        "suites": list(setting.suites),
        "values": {value: list(models) for value, models in setting.values.items()},
    }


COSTS = ("gpus", "seconds_per_solved", "tokens_per_solved", "joules_per_solved", "cost_per_solved")
"""What a model's claims say of cost."""


IF_ANY = ("judged", "mismatches", "contrasts", "guardrails", "problems", "unread")
"""Keys of claims that are not there where they are empty."""


def claims_object(claims: Claims) -> dict[str, Any]:
    """The JSON object of claims. Some kinds are there only where there are any (`IF_ANY`)."""
    plain: dict[str, Any] = msgspec.to_builtins(
        msgspec.structs.replace(
            claims,
            hijacking=(),
            judged=(),
            guardrails=(),
            snapshot=None,
            allowed=(),
            differences=Differences(),
        )
    )
    plain["judged"] = [comparison_object(gap, "gap") for gap in claims.judged]
    plain["guardrails"] = [
        {
            "base": claim.base,
            "derived": claim.derived,
            "changes": list(map(guardrail_object, claim.changes)),
            "capability": None if claim.capability is None else estimate_object(claim.capability),
            "benchmarks": claim.benchmarks,
        }
        for claim in claims.guardrails
    ]
    for name in IF_ANY:
        if not plain[name]:
            del plain[name]
    for model in plain["models"]:
        if not model["finite"]:
            model["ability"] = model["ability_error"] = None
        model["cost"] = {name: model.pop(name) for name in COSTS}
    plain["hijacking"] = [comparison_object(ratio, "risk_ratio") for ratio in claims.hijacking]
    plain["allowed"] = [_setting_object(setting) for setting in claims.allowed]
    plain["differences"] = list(sentences_of(claims.differences))
    snapshot = claims.snapshot
    plain["snapshot"] = snapshot and {"date": snapshot.date.isoformat(), "source": snapshot.source}
    rounded: dict[str, Any] = _rounded(plain)
    return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return text.rounded(value) if isinstance(value, float) else value


def to_json(value: Any) -> str:
    """JSON with sorted keys, the same for the same value."""
    # Indented apart: with `indent` json.dumps takes ten times as long for the same text.
    return msgspec.json.format(json.dumps(value, sort_keys=True, allow_nan=False), indent=2) + "\n"


def _model_object(card: ModelScorecard) -> dict[str, Any]:
    """The JSON object of a model. Measured times stand under `cost` and nowhere else.

    Nothing under `metrics` counts a failed attempt. What does, by the rule of a benchmark's authors, is under
    `bookings`. `pooled_bookings`, the same over several of AgentDojo's suites, is there where a model has
    several.
    `members` is the same as `metrics` of suites that are parts of a benchmark, which stands under `metrics`;
    `benchmarks` says which they are, and `lm_eval_averages` what lm-eval prints for them.
    `by_injection_task` is suite -> injection task -> {harm, metrics, bookings}, of the suites that attack
    agents.
    """
    origin, architecture, engine = card.model.origin, card.model.architecture, card.model.engine
    answers_read = {key: own.answers_read for key, own in card.cells.items() if own.answers_read is not None}
    return {
        "model": card.model.name,
        "imported": card.model.imported,
        "origin": origin.country,
        "developer": origin.developer,
        "base_models": list(origin.base_models),
        "licence": origin.licence,
        "release_date": origin.release_date,
        "architecture": None if architecture is None else msgspec.structs.asdict(architecture),
        "engine": None if engine is None else msgspec.structs.asdict(engine),
        "complete": card.complete,
        "benchmarks": {name: sorted(suite.members) for name, suite in card.suites.items() if suite.members},
        "attempts": {
            name: {"expected": suite.expected, "finished": suite.finished, "owed": suite.owed}
            for name, suite in card.cells.items()
        },
        "metrics": _metric_objects(card, tables.metrics_of([card])),
        "members": {key: _metric_object(result) for key, result in card.members.items()},
        "lm_eval_averages": {
            key: text.rounded(value)
            for suite in card.suites.values()
            for key, value in suite.group_averages.items()
        },
        "bookings": _metric_objects(card, tables.bookings_of([card])),
        **({"pooled_bookings": [_pooled_object(one) for one in card.pooled]} if card.pooled else {}),
        "by_injection_task": {
            name: {
                task: _injection_task_object(of_task, tables.bookings_of([card], name))
                for task, of_task in suite.by_injection_task.items()
            }
            for name, suite in card.suites.items()
            if suite.by_injection_task
        },
        "failures": {name: suite.failures for name, suite in card.cells.items()},
        "truncated": {name: suite.truncated for name, suite in card.cells.items()},
        "contexts_cut": {name: suite.contexts_cut for name, suite in card.cells.items()},
        "thoughts_cut": {name: suite.thoughts_cut for name, suite in card.cells.items()},
        "thoughts_ended": {name: suite.thoughts_ended for name, suite in card.cells.items()},
        "no_tool_call": {
            name: suite.no_tool_call for name, suite in card.cells.items() if suite.no_tool_call is not None
        },
        **({"answers_read": answers_read} if answers_read else {}),
        "cost": {
            **({"load_seconds": text.rounded(load)} if (load := card.model.load_seconds) is not None else {}),
            "total": _usage_object(card.usage, card.model),
            "suites": {name: _usage_object(suite.usage, card.model) for name, suite in card.cells.items()},
        },
    }


def _metric_objects(card: ModelScorecard, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    return {key: _metric_object(card.metrics[key]) for key in keys}


def _pooled_object(pooled: Pooled) -> dict[str, Any]:
    return {
        "extent": pooled.extent,
        "all_suites": pooled.whole,
        "suites": pooled.suites,
        "protocol": pooled.protocol,
        "bookings": {name: _metric_object(rate) for name, rate in pooled.rates.items()},
        "metrics": {name: _metric_object(rate) for name, rate in pooled.own.items()},
    }


def _metric_object(result: MetricResult | PooledRate) -> dict[str, Any]:
    metric = result.metric
    fields = {**estimate_object(result.estimate), "higher_is_better": metric.higher_is_better}
    return {**fields, "booking": metric.booking} if metric.booking else fields


def _injection_task_object(result: InjectionTaskResult, books: Mapping[str, Metric]) -> dict[str, Any]:
    rules = {metric.name: metric.booking for metric in books.values()}
    estimates = {name: estimate_object(estimate) for name, estimate in result.estimates.items()}
    return {
        "harm": result.harm,
        "metrics": {name: estimate for name, estimate in estimates.items() if name not in rules},
        "bookings": {n: {**estimates[n], "booking": rule} for n, rule in rules.items() if n in estimates},
    }


def estimate_object(estimate: Estimate) -> dict[str, Any]:
    """An estimate for JSON, to six digits."""
    fields: dict[str, Any] = _rounded(msgspec.to_builtins(estimate))
    corrected = fields.pop("corrected")  # most rates have no judge
    return {**fields, "corrected_for_judge": corrected} if corrected else fields


def guardrail_object(guardrail: GuardrailChange) -> dict[str, Any]:
    """What a derivation changed in one headline."""
    return {
        "metric": guardrail.key,
        "kind": guardrail.kind,
        "higher_is_better": guardrail.metric.higher_is_better,
        "base": estimate_object(guardrail.base),
        "derived": estimate_object(guardrail.derived),
        "change": estimate_object(guardrail.change),
    }


def _usage_object(usage: Usage, model: ModelEntry) -> dict[str, Any]:
    known = model.known(usage)
    return {**known, **{name: text.rounded(known[name]) for name in ("engine_seconds", "joules")}}


def _origin_object(origin: OriginScorecard) -> dict[str, Any]:
    return {
        "origin": origin.key,
        "models": list(origin.models),
        "metrics": {
            key: {
                "best": None if result.best is None else estimate_object(result.best),
                "best_model": result.best_model,
                "median": estimate_object(result.median),
                "mean": None if result.mean is None else estimate_object(result.mean),
                "spread": text.rounded(result.spread),
                "selection_bias": text.rounded(result.selection),
                "models": result.models,
                "left_out": list(result.left_out),
                "higher_is_better": result.metric.higher_is_better,
            }
            for key, result in origin.metrics.items()
        },
    }


def comparison_object(compared: Compared, kind: str) -> dict[str, Any]:
    """A comparison of two origins: a `gap` (this origin minus the other) or a `risk_ratio` (over it)."""
    comparison = compared.comparison
    return {
        **estimate_object(comparison.estimate),
        "kind": kind,
        "metric": comparison.key,
        "origin": compared.origin,
        "other": comparison.other,
        "origin_value": estimate_object(comparison.value),
        "other_value": estimate_object(comparison.other_value),
        "best_model": comparison.best_model,
        "other_best_model": comparison.other_best_model,
        "models": comparison.models,
        "other_models": comparison.other_models,
        "corrected_for_selection": None
        if comparison.corrected is None
        else estimate_object(comparison.corrected),
        "over_models": None if comparison.over_models is None else estimate_object(comparison.over_models),
    }
