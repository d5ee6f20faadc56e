"""Bulk deletes on a store that holds each key against its ETag, as S3 does: nothing that was written again goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from maintenance_defs.stores.acting import ActingStore
from tests.support.acting import KEYS, PROBED, bulk, live, opened, see, single
from tests.support.fault_proxy import ComparingProxy, Fault, FaultProxy, fault_proxy
from tests.support.servers import client

COMPARED = replace(PROBED, conditional_bulk=True)


@pytest.fixture
def comparing(endpoint: str) -> Iterator[FaultProxy]:
    with fault_proxy(endpoint, kind=ComparingProxy) as running:
        yield running


def requests(proxy: FaultProxy) -> tuple[int, int]:
    """How many bulk and how many single deletes were sent."""
    return sum(map(bulk, proxy.seen)), sum(map(single, proxy.seen))


def test_what_a_store_compares_is_probed_and_not_believed(comparing: FaultProxy, endpoint: str, bucket: str) -> None:
    """F08: with a wrong ETag, which must be refused, and with the right one, which must not."""
    before = live(endpoint, bucket)
    assert opened(comparing.url, bucket).reading.probe(write=True).conditional_bulk is True
    assert opened(endpoint, bucket).reading.probe(write=True).conditional_bulk is False
    comparing.add(Fault(bulk, status=501, code="NotImplemented"))
    assert opened(comparing.url, bucket).reading.probe(write=True).conditional_bulk is False
    comparing.faults.clear()
    comparing.add(Fault(bulk, edit=lambda body: body.replace(b"<Deleted>", b"<Error><Code>PreconditionFailed</Code>")))
    assert opened(comparing.url, bucket).reading.probe(write=True).conditional_bulk is False
    assert live(endpoint, bucket) == before


@pytest.mark.parametrize("act", ["delete", "quarantine"])
def test_an_object_written_again_after_the_look_is_not_deleted_in_bulk(
    comparing: FaultProxy, endpoint: str, bucket: str, act: str
) -> None:
    """B07: in the moment between the last look and the request."""
    store = opened(comparing.url, bucket, COMPARED)
    seen = see(store, KEYS[:10])
    written: list[str] = []

    def write_again(*_: object) -> bool:
        if not written:
            written.append("in/03")
            client(endpoint).put_object(Bucket=bucket, Key="in/03", Body=b"written again")
        return False

    comparing.add(Fault(lambda request: bulk(request) and write_again()))
    done = {one.key: one for one in _act(store, act, seen)}
    assert done["in/03"].outcome == "skipped_changed", done["in/03"]
    assert {one.outcome for key, one in done.items() if key != "in/03"} == {act + "d"}
    assert client(endpoint).get_object(Bucket=bucket, Key="in/03")["Body"].read() == b"written again"
    assert live(endpoint, bucket) == {"in/03", *KEYS[10:]}
    assert requests(comparing) == (1, 0)


def test_a_store_that_compares_single_deletes_only_is_asked_one_by_one(
    comparing: FaultProxy, endpoint: str, bucket: str
) -> None:
    store = opened(comparing.url, bucket, PROBED)
    seen = see(store, KEYS[:3])
    assert {one.outcome for one in store.delete(seen)} == {"deleted"}
    assert requests(comparing) == (0, 3)
    assert live(endpoint, bucket) == set(KEYS[3:])


def _act(store: ActingStore, act: str, seen: list) -> list:  # type: ignore[type-arg]
    return store.delete(seen, checked=True) if act == "delete" else store.quarantine(seen, "run")
