"""One suite for every store of immutable objects: written once, read back whole, removed in every version."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from maintenance_defs.archive.objects import fetch, put_once
from maintenance_defs.core.errors import ObjectDamaged, Refused, StoreUnavailable
from maintenance_defs.stores import immutable_s3
from maintenance_defs.stores.immutable import ImmutableStore
from tests.contract.conftest import Bucket

KEY = "in/log/month=2025-10/g1-0011223344556677.parquet"


def made(folder: Path, body: bytes, name: str = "spool") -> tuple[Path, str]:
    path = folder / name
    path.write_bytes(body)
    return path, sha256(body).hexdigest()


def listed(store: ImmutableStore) -> list[str]:
    keys = [str(key) for batch in store.reading.list() for key in batch["key"].to_pylist()]
    return sorted(key for key in keys if not key.startswith(".maintenance/"))


def test_what_is_put_is_there_whole_and_again_is_no_second_one(bucket: Bucket, tmp_path: Path) -> None:  # C36 C37
    store = bucket.open_immutable()
    path, digest = made(tmp_path, os.urandom(70_000))
    first = put_once(store, KEY, path, digest)
    assert (first.key, first.size_bytes) == (KEY, 70_000)
    assert put_once(store, KEY, path, digest) == first
    assert listed(store) == [KEY]
    if bucket.theirs is not None and bucket.versioned:
        assert first.version_id
        assert len(bucket.theirs.list_object_versions(Bucket=bucket.name, Prefix=KEY)["Versions"]) == 1
    fetch(store.reading, KEY, tmp_path / "back", digest)
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
    assert {one.name for one in tmp_path.iterdir()} >= {"spool", "back"}
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".back")]


def test_other_bytes_under_the_key_are_refused_and_stay(bucket: Bucket, tmp_path: Path) -> None:  # C37 C44
    bucket.put(KEY, b"somebody else's")
    store = bucket.open_immutable()
    path, digest = made(tmp_path, b"ours, of another size")
    with pytest.raises(Refused, match="other bytes") as refused:
        put_once(store, KEY, path, digest)
    assert refused.value.reason == "key_taken"
    same_size, other = made(tmp_path, b"SOMEBODY ELSE'S", "two")
    with pytest.raises(Refused, match="other bytes"):
        put_once(store, KEY, same_size, other)
    fetch(store.reading, KEY, tmp_path / "back", sha256(b"somebody else's").hexdigest())


def test_a_file_that_changed_since_its_digest_is_not_stored(bucket: Bucket, tmp_path: Path) -> None:
    store = bucket.open_immutable()
    path, digest = made(tmp_path, b"whole")
    path.write_bytes(b"who")  # a full disk
    with pytest.raises(Refused, match="changed since"):
        put_once(store, KEY, path, digest)
    assert listed(store) == []


def test_many_who_store_the_same_at_once_all_succeed(bucket: Bucket, tmp_path: Path) -> None:  # C42
    path, digest = made(tmp_path, os.urandom(50_000))
    stores = [bucket.open_immutable() for _ in range(4)]
    stores[0].attests()
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda store: put_once(store, KEY, path, digest), stores))
    assert {one.size_bytes for one in done} == {50_000}
    fetch(stores[0].reading, KEY, tmp_path / "back", digest)


def test_a_large_file_goes_in_parts_and_is_no_less_written_once(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # L6
    monkeypatch.setattr(immutable_s3, "PART_BYTES", 5 * 1024**2)  # what S3 takes at least
    store = bucket.open_immutable()
    path, digest = made(tmp_path, os.urandom(11 * 1024**2 + 7))
    stored = put_once(store, KEY, path, digest)
    if bucket.theirs is not None and bucket.subject.name == "moto":
        assert stored.etag is not None
        assert stored.etag.endswith("-3")
    assert put_once(store, KEY, path, digest) == stored
    fetch(store.reading, KEY, tmp_path / "back", digest, size_bytes=stored.size_bytes)
    changed, other = made(tmp_path, os.urandom(11 * 1024**2 + 7), "changed")
    with pytest.raises(Refused, match="other bytes"):
        put_once(store, KEY, changed, other)


def test_what_is_fetched_is_whole_or_an_error_that_names_it(bucket: Bucket, tmp_path: Path) -> None:  # C38 C39 C41
    body = os.urandom(5000)
    digest, back = sha256(body).hexdigest(), tmp_path / "back"
    store = bucket.open_immutable().reading
    with pytest.raises(ObjectDamaged, match="lifecycle") as missing:
        fetch(store, KEY, back, digest, size_bytes=5000)
    assert (missing.value.reason, missing.value.key) == ("missing", KEY)
    bucket.put(KEY, body[:-20])
    with pytest.raises(ObjectDamaged, match="4,980 bytes instead of 5,000") as truncated:
        fetch(store, KEY, back, digest, size_bytes=5000)
    assert truncated.value.reason == "truncated"
    bucket.put(KEY, body[:100] + bytes([body[100] ^ 1]) + body[101:])
    with pytest.raises(ObjectDamaged, match="sha256") as flipped:
        fetch(store, KEY, back, digest, size_bytes=5000)
    assert flipped.value.reason == "other_bytes"
    assert not back.exists()
    bucket.put(KEY, body)
    fetch(store, KEY, back, digest, size_bytes=5000)
    assert back.read_bytes() == body


def test_a_store_that_is_gone_is_never_a_missing_object(bucket: Bucket, tmp_path: Path) -> None:  # C47
    store = bucket.subject.open(bucket.subject.absent_url)
    with pytest.raises(StoreUnavailable):
        fetch(store, KEY, tmp_path / "back", "0" * 64)


def test_what_is_removed_is_gone_in_every_version_and_nothing_beside_it_is(bucket: Bucket, tmp_path: Path) -> None:
    # G98
    store = bucket.open_immutable()
    path, digest = made(tmp_path, b"rows")
    put_once(store, KEY, path, digest)
    beside = [KEY + "2", KEY[:-1], "in/log/month=2025-10/other"]
    for key in beside:
        bucket.put(key, b"beside")
    if bucket.versioned:
        bucket.put(KEY, b"a later version")
        bucket.theirs.delete_object(Bucket=bucket.name, Key=KEY)  # and a marker on top
        bucket.put(KEY, b"rows once more")
    removed = store.remove(KEY)
    assert removed.lock is None
    assert removed.taken == (4 if bucket.versioned else 1)
    assert removed.proof
    assert listed(store) == sorted(beside)
    assert store.reading.head(KEY) is None
    if bucket.versioned:
        page = bucket.theirs.list_object_versions(Bucket=bucket.name, Prefix=KEY)
        assert {one["Key"] for one in page["Versions"]} == {KEY + "2"}
        assert not page.get("DeleteMarkers")
    again = store.remove(KEY)
    assert (again.taken, again.lock) == (0, None)


def test_parts_of_an_upload_that_was_killed_go_with_the_object(bucket: Bucket, tmp_path: Path) -> None:
    if bucket.theirs is None or bucket.subject.name == "rclone":  # they show none, and remove all the same
        bucket.put(KEY, b"rows")
        assert bucket.open_immutable().remove(KEY).taken == 1
        return
    for key in (KEY, KEY + "2"):
        upload = bucket.theirs.create_multipart_upload(Bucket=bucket.name, Key=key)["UploadId"]
        bucket.theirs.upload_part(Bucket=bucket.name, Key=key, UploadId=upload, PartNumber=1, Body=b"rows")
    store = bucket.open_immutable()
    store.remove(KEY)
    assert [key for key, _ in store.reading.incomplete_uploads()] == [KEY + "2"]


@pytest.mark.parametrize("key", [".maintenance/archive/a", ".Maintenance/a", ""])
def test_the_platforms_own_objects_are_neither_made_nor_removed(bucket: Bucket, tmp_path: Path, key: str) -> None:
    store = bucket.open_immutable()
    path, digest = made(tmp_path, b"x")
    with pytest.raises(Refused, match="own"):
        put_once(store, key, path, digest)
    with pytest.raises(Refused, match="own"):
        store.remove(key)
