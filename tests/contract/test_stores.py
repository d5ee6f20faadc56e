"""One suite for every store: what the rest of the platform may rely on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError

from maintenance_defs.core.errors import IncompleteListing, StoreDenied, StoreUnavailable
from maintenance_defs.core.schemas import INVENTORY
from maintenance_defs.stores.base import ObjectStore
from tests.contract.conftest import ODD_KEYS, Subject


def rows(store: ObjectStore, **bounds: str) -> list[dict[str, object]]:
    batches = list(store.list(**bounds))
    assert all(batch.schema == INVENTORY for batch in batches)
    return pa.Table.from_batches(batches, INVENTORY).to_pylist()


def keys(store: ObjectStore, **bounds: str) -> list[str]:
    return [str(row["key"]) for row in rows(store, **bounds)]


def test_an_empty_store_lists_nothing_and_is_no_error(subject: Subject) -> None:
    assert keys(subject.open()) == []


def test_a_bucket_that_does_not_exist_is_not_an_empty_one(subject: Subject) -> None:  # A14
    absent = subject.open(subject.absent_url)
    with pytest.raises(StoreUnavailable):
        list(absent.list())
    with pytest.raises(StoreUnavailable):
        absent.head("in/a")


def test_a_listing_has_exact_facts_and_head_agrees(subject: Subject) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    subject.put("in/one.txt", b"12345")
    subject.put("in/empty", b"")
    store = subject.open()
    listed = {row["key"]: row for row in rows(store)}
    assert {key: row["size_bytes"] for key, row in listed.items()} == {"in/one.txt": 5, "in/empty": 0}
    facts = store.head("in/one.txt")
    assert facts is not None
    assert facts.size_bytes == 5
    row = listed["in/one.txt"]
    assert isinstance(row["modified_at"], datetime)
    assert before <= row["modified_at"] <= datetime.now(UTC) + timedelta(seconds=2)
    assert facts.modified_at is not None
    assert facts.modified_at.replace(microsecond=0) == row["modified_at"].replace(microsecond=0)
    assert facts.etag == row["etag"]
    if "etag" not in subject.gaps:
        assert facts.etag
        assert '"' not in facts.etag


def test_odd_keys_are_listed_byte_for_byte(subject: Subject) -> None:  # C14 C15
    possible = ODD_KEYS - subject.impossible - subject.unsure
    for key in sorted(possible):
        subject.put(key, b"x")
    store = subject.open()
    assert sorted(keys(store)) == sorted(possible)
    assert {key for key in possible if store.head(key) is None} == subject.not_headed


def test_keys_declared_impossible_are_refused_changed_or_not_there(subject: Subject) -> None:
    store = subject.open()
    for key in sorted(subject.impossible):
        if subject.name == "local":
            assert store.head(key) is None
            continue
        try:
            subject.put(key, b"x")
        except (BotoCoreError, ClientError, BaseError) as error:  # each client refuses in its own way
            assert "error" in str(error).lower()
        try:
            listed = keys(store)
        except IncompleteListing:  # obstore cannot carry the key: the whole listing must not count
            assert subject.name == "azurite"
        else:
            assert key not in listed


def test_a_listing_of_several_pages_is_whole_and_in_byte_order(subject: Subject) -> None:
    wanted = [f"in/{n:04}" for n in range(1003)] if subject.name in ("local", "rclone", "moto") else ["in/1", "in/2"]
    for key in wanted:
        subject.put(key, b"")
    store = subject.open()
    assert keys(store) == wanted
    assert keys(store, after=wanted[0]) == wanted[1:]
    assert keys(store, after=wanted[0], until=wanted[-2]) == wanted[1:-1]
    assert keys(store, until=wanted[0]) == wanted[:1]
    assert keys(store, after=wanted[-1]) == []


def test_head_of_an_absent_key_is_none(subject: Subject) -> None:
    subject.put("in/there", b"x")
    store = subject.open()
    assert store.head("in/gone") is None
    assert store.head("in/there/below") is None
    assert store.head("in") is None


def test_the_store_tells_its_time(subject: Subject) -> None:
    clock = subject.open().clock()
    assert clock.tzinfo is UTC
    assert abs(clock - datetime.now(UTC)) < timedelta(seconds=5)


def test_probing_finds_the_declared_capabilities_and_leaves_nothing(subject: Subject) -> None:  # F08
    subject.put("in/a", b"x")
    store = subject.open()
    seen = store.probe(write=True)
    wanted = subject.capabilities
    assert (seen.lists, seen.reads, seen.writes) == (True, True, True)
    assert (seen.conditional_delete, seen.conditional_put) == (wanted.conditional_delete, wanted.conditional_put)
    if subject.name in ("moto", "rclone"):
        assert seen.conditional_bulk is False  # a known gap of both: they delete whatever the entry's ETag is
    assert keys(store) == ["in/a"]


def test_probing_without_write_writes_nothing(subject: Subject) -> None:
    store = subject.open()
    seen = store.probe()
    assert seen.writes is None
    assert seen.lists is True
    assert keys(store) == []


def test_wrong_credentials_are_denied_and_never_shown(subject: Subject) -> None:
    if "SK" not in subject.variables:
        assert "credentials" in subject.gaps
        return
    subject.put("in/a", b"x")
    wrong = "d3JvbmctYW5kLWxvbmctZW5vdWdoLXNlY3JldC13cm9uZw=="
    store = subject.open(SK=wrong)
    if "credentials" in subject.gaps:  # the server takes any: proven here, so that nobody relies on it
        assert keys(store) == ["in/a"]
        return
    for act in (lambda: list(store.list()), lambda: store.head("in/a"), lambda: store.probe(write=True)):
        with pytest.raises(StoreDenied) as raised:
            act()
        told = f"{raised.value} {raised.value!r} {store!r} {vars(store)!r}"
        assert wrong not in told
        assert "Signature=" not in told


def test_uploads_in_progress_are_listed_apart(subject: Subject) -> None:
    store = subject.open()
    if "uploads" in subject.gaps:
        with pytest.raises(StoreUnavailable):
            list(store.incomplete_uploads())
    else:
        assert list(store.incomplete_uploads()) == []


def test_a_file_comes_back_as_it_was_sent(subject: Subject, tmp_path: Path) -> None:
    source = tmp_path / "sent"
    source.write_bytes(bytes(range(256)) * 5000)
    store = subject.open()
    store.put_file("in/deep/er/file", source)
    assert keys(store) == ["in/deep/er/file"]
    store.get_file("in/deep/er/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    with pytest.raises(StoreUnavailable):
        store.get_file("in/absent", tmp_path / "nothing")


def test_a_range_is_read_exactly_and_ends_where_the_object_does(subject: Subject) -> None:
    body = bytes(range(256)) * 40
    subject.put("in/deep/file", body)
    subject.put("in/empty", b"")
    store = subject.open()
    assert store.read_range("in/deep/file", 0, len(body)) == body
    assert store.read_range("in/deep/file", 100, 300) == body[100:400]
    assert store.read_range("in/deep/file", len(body) - 5, 50) == body[-5:]
    assert store.read_range("in/deep/file", len(body), 10) == b""
    assert store.read_range("in/deep/file", len(body) + 1000, 10) == b""
    assert store.read_range("in/deep/file", 7, 0) == b""
    assert store.read_range("in/empty", 0, 10) == b""


def test_a_range_of_what_is_not_there_is_none_and_of_an_absent_store_an_error(subject: Subject) -> None:  # A14 H113
    subject.put("in/there", b"x")
    store = subject.open()
    for key in ("in/gone", "in/there/below", "in"):
        assert store.read_range(key, 0, 10) is None
        assert store.read_range(key, 0, 0) is None
    with pytest.raises(StoreUnavailable):
        subject.open(subject.absent_url).read_range("in/there", 0, 10)
