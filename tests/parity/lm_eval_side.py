"""lm-eval's own evaluation of a list of jobs, for a process of its own.

usage: lm_eval_side.py BACKEND ASKED.json OUT.json
"""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

BOOTSTRAP_ITERS = 100
"""Resamples of standard errors that have no formula. lm-eval itself allows BLEU and its like no more."""


def main() -> None:
    """Evaluate the jobs of each model, and write what lm-eval logs and reports."""
    backend, asked, out = sys.argv[1], *(Path(argument) for argument in sys.argv[2:])
    from lm_eval import evaluator
    from lm_eval.api.registry import get_model

    # What the machine is like takes a second to find out, for every job.
    evaluator.add_env_info = lambda results: None

    found = []
    for each in json.loads(asked.read_text()):
        model = get_model(backend)(**each["model"])
        found.append({job["key"]: evaluate(model, job) for job in each["jobs"]})
    out.write_text(json.dumps(found, default=plain))
    sys.stdout.flush()
    # vLLM's and torch's destructors have nothing to add.
    os._exit(0)


def evaluate(model: Any, job: dict[str, Any]) -> dict[str, Any]:
    """lm-eval's samples and results of one job."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    from harness.sandbox.programs import in_place_of_code_eval

    os.chdir(job["data"])
    with in_place_of_code_eval() if job["code"] else nullcontext():
        result = simple_evaluate(
            model=model,
            tasks=[job["task"]],
            num_fewshot=job["num_fewshot"],
            limit=job["limit"],
            system_instruction=job["system"],
            apply_chat_template=job["chat"],
            fewshot_as_multiturn=job["multiturn"],
            # Its own index of 14,000 files takes half a minute; the folders of a job hold all it needs.
            task_manager=TaskManager(include_path=job["include"], include_defaults=False),
            bootstrap_iters=BOOTSTRAP_ITERS,
            confirm_run_unsafe_code=job["code"],
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
