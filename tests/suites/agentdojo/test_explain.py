"""What calls changed."""

from harness.suites.agentdojo.explain import changes, short
from harness.suites.explanation import Change


def test_changes_are_named_by_their_path() -> None:
    before = {"inbox": {"1": {"read": False}, "2": {}}, "sums": [1, 2], "initial_sums": [1], "same": "x"}
    after = {"inbox": {"1": {"read": True}, "3": "new"}, "sums": [1, 5, 9], "initial_sums": [2], "same": "x"}
    assert list(changes(before, after)) == [
        Change(path="inbox.1.read", before="false", after="true"),
        Change(path="inbox.2", before="{}", after=None),
        Change(path="inbox.3", before=None, after="new"),
        Change(path="sums[1]", before="2", after="5"),
        Change(path="sums[2]", before=None, after="9"),
    ]


def test_long_values_are_cut() -> None:
    assert short("x" * 1000).endswith("… (1000 characters)")
    assert len(short("x" * 1000)) < 450
