"""Whether a model has seen a benchmark before: by the order of its items, and by what it completes."""

from harness.suites.contamination.suite import ContaminationSuite, Options, build

__all__ = ["ContaminationSuite", "Options", "build"]
