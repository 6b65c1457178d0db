"""Any task of lm-evaluation-harness, by its own prompts, filters and metrics."""

from harness.suites.lm_eval.suite import LmEvalSuite, Options, build

__all__ = ["LmEvalSuite", "Options", "build"]
