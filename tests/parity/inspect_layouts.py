"""Public data in the layouts that tasks of inspect-evals read on the hub, made of local copies."""

import re
from typing import Any

from tests.suites import hub_layouts
from tests.suites.hub_layouts import Row, Splits, table

BBH = ("boolean_expressions", "date_understanding", "object_counting")


def load_dataset(path: str, name: str | None = None, *, split: str, **more: Any) -> Any:
    """As `datasets.load_dataset`."""
    from datasets import Dataset

    return Dataset.from_list(_splits(path, name or more.get("data_dir") or "")[split][:100])


def _splits(path: str, name: str) -> Splits:
    own = {
        "Joschka/big_bench_hard": _bbh,
        "allenai/ai2_arc": _arc,
        "Rowan/hellaswag": _hellaswag,
        "TIGER-Lab/MMLU-Pro": _mmlu_pro,
        "cais/mmlu": lambda _: hub_layouts.mmlu("virology"),
        "truthfulqa/truthful_qa": lambda _: _truthfulqa(),
        "walledai/XSTest": lambda _: {"test": table("xstest/xstest_prompts.csv")},
    }
    return own[path](name) if path in own else hub_layouts.HUB[path](name)


def _arc(name: str) -> Splits:
    rows = hub_layouts.arc(name)["test"]
    return {"test": [{**row, "id": row["id"] or str(i)} for i, row in enumerate(rows)]}


def _truthfulqa() -> Splits:
    rows = hub_layouts.truthfulqa("multiple_choice")["validation"]
    for row in rows:
        for key in ("mc1_targets", "mc2_targets"):
            row[key]["labels"] = [int(label) for label in row[key]["labels"]]
    return {"validation": rows}


def _hellaswag(name: str) -> Splits:
    rows = hub_layouts.hellaswag(name)["validation"]
    return {"validation": [{**row, "ctx": row["ctx_a"], "source_id": str(i)} for i, row in enumerate(rows)]}


def _mmlu_pro(name: str) -> Splits:
    rows = hub_layouts.mmlu_pro(name)["test"]
    return {
        split: [{**row, "question_id": i} for i, row in enumerate(rows)] for split in ("validation", "test")
    }


def _bbh(name: str) -> Splits:
    if name == "few_shot_prompts":
        prompts = {"answer_only_prompt": "Answer.", "chain_of_thought_prompt": "Think."}
        return {name: [{"dataset_name": subset, **prompts} for subset in BBH]}
    return {name: [_with_choices(row) for row in hub_layouts.bbh(name)["test"]]}


def _with_choices(row: Row) -> Row:
    question, _, options = row["input"].partition("\nOptions:\n")
    if not options:
        return {"question": question, "target": row["target"]}
    choices = re.findall(r"\([A-Z]\) (.*)", options)
    labels = "ABCDEFGHIJ"[: len(choices)]
    return {
        "question": question,
        "choices": {"text": choices, "label": [*labels]},
        "target": row["target"].strip("()"),
    }
