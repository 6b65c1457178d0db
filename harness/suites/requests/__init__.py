"""Requests out of a table, one reply each, read by a judge: over-refusal, harmful requests, narratives."""

from harness.suites.requests.suite import Options, RequestSuite, build

__all__ = ["Options", "RequestSuite", "build"]
