"""lm-eval's own evaluation of a list of jobs, for a process of its own.

usage: lm_eval_side.py BACKEND MODEL_ARGS.json JOBS.json OUT.json
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Evaluate each job with one model and write what lm-eval logs and reports."""
    backend, model_args, jobs, out = sys.argv[1], *(Path(argument) for argument in sys.argv[2:])
    from lm_eval.api.registry import get_model

    model = get_model(backend)(**json.loads(model_args.read_text()))
    found = {job["key"]: evaluate(model, job) for job in json.loads(jobs.read_text())}
    out.write_text(json.dumps(found, default=plain))
    sys.stdout.flush()
    # vLLM's and torch's destructors have nothing to add.
    os._exit(0)


def evaluate(model: Any, job: dict[str, Any]) -> dict[str, Any]:
    """lm-eval's samples and results of one job."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    os.chdir(job["data"])
    result = simple_evaluate(
        model=model,
        tasks=[job["task"]],
        num_fewshot=job["num_fewshot"],
        limit=job["limit"],
        apply_chat_template=job["chat"],
        fewshot_as_multiturn=job["chat"],
        # Its own index of 14,000 files takes half a minute; the folders that a job names hold all it needs.
        task_manager=TaskManager(include_path=job["include"], include_defaults=False),
        bootstrap_iters=2,  # none at all would leave the standard errors of means out, too
    )
    return {
        task: {"samples": rows, "results": result["results"][task]}
        for task, rows in result["samples"].items()
    }


def plain(value: Any) -> Any:
    """Numbers of numpy's as Python's; whatever else JSON does not know as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


if __name__ == "__main__":
    main()
