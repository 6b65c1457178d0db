"""Fixtures of the suites' tests."""

import pytest

from harness.errors import UserError
from harness.suites import sandbox
from tests.conftest import lacking


@pytest.fixture
def sandboxed() -> None:
    """A machine on which programs can be run safely (that they are refused elsewhere is another test)."""
    try:
        sandbox.check_available()
    except UserError as error:
        lacking(str(error))
