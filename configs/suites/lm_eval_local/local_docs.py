"""Local files in other layouts than the hub's, as lm-eval's tasks expect their documents."""

import json
from typing import Any


def truthfulqa(dataset: Any) -> Any:
    """One text, a JSON list of questions with answer -> label, as questions with choices and labels."""
    from datasets import Dataset

    def listed(targets: dict[str, int]) -> dict[str, list[Any]]:
        return {"choices": list(targets), "labels": list(targets.values())}

    (row,) = dataset
    keys = ("mc1_targets", "mc2_targets")
    return Dataset.from_list(
        [
            {"question": question["question"], **{key: listed(question[key]) for key in keys}}
            for question in json.loads(row["text"])
        ]
    )


def ifeval(dataset: Any) -> Any:
    """Lines of JSON, with the names of instructions as lm-eval knows them."""
    from datasets import Dataset

    docs = [json.loads(row["text"]) for row in dataset]
    for doc in docs:
        doc["instruction_id_list"] = [name.removeprefix("en:") for name in doc["instruction_id_list"]]
    return Dataset.from_list(docs)
