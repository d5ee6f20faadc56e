"""The canary of the restore drill goes through a real restore on every store, and leaves nothing."""

from __future__ import annotations

from maintenance_defs.retention.drill import canary_problem
from tests.contract.conftest import Bucket
from tests.contract.test_acting_stores import own, theirs


def test_a_canary_is_restored_and_removed_again(bucket: Bucket) -> None:
    bucket.put("in/a", b"x")
    store = bucket.open()
    for name in ("one", "one", "two"):  # the same name again is no conflict
        assert canary_problem(store, name) is None
    assert own(store) == []
    assert theirs(store) == ["in/a"]
