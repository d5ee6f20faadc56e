"""Immutable objects behind a network that fails: put is repeated without harm, and silence is never an answer."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.objects import fetch, put_once
from maintenance_defs.core.declaration import Store
from maintenance_defs.core.errors import ObjectDamaged, Refused, StoreDenied, StoreUnavailable
from maintenance_defs.stores import immutable, immutable_s3
from maintenance_defs.stores.base import Capabilities
from maintenance_defs.stores.immutable import ImmutableStore, open_immutable
from tests.support.fault_proxy import Fault, FaultProxy, Request
from tests.support.servers import ACCESS_KEY, SECRET_KEY, client

KEY = "in/log/g1-0011.parquet"
HONOURS = Capabilities(True, True, True, None, True, True)
IGNORES = Capabilities(True, True, True, None, False, False)


@pytest.fixture(autouse=True)
def few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(immutable, "ATTEMPTS", 4)
    monkeypatch.setattr(immutable, "LONGEST_PAUSE_SECONDS", 0.2)


@pytest.fixture(params=["plain", "versioned"])
def name(request: pytest.FixtureRequest, endpoint: str) -> str:
    made = f"once-{uuid.uuid4().hex[:12]}"
    client(endpoint).create_bucket(Bucket=made)
    if request.param == "versioned":
        client(endpoint).put_bucket_versioning(Bucket=made, VersioningConfiguration={"Status": "Enabled"})
    return made


def opened(url: str, bucket: str, capabilities: Capabilities = HONOURS) -> ImmutableStore:
    values = {"URL": f"s3://{bucket}?endpoint_url={url}", "AK": ACCESS_KEY, "SK": SECRET_KEY}
    declared = Store.model_validate(
        {"url_env": "URL", "scopes": [{"prefix": "in/"}],
         "write_credentials": {"access_key_env": "AK", "secret_key_env": "SK"}}
    )  # fmt: skip
    return open_immutable("files", declared, lambda variable, _: values[variable], capabilities=capabilities)


def made(folder: Path, size: int = 50_000) -> tuple[Path, str]:
    path = folder / "spool"
    path.write_bytes(os.urandom(size))
    return path, sha256(path.read_bytes()).hexdigest()


def puts(request: Request) -> bool:
    return request.method == "PUT" and "partNumber" not in request.target


def completes(request: Request) -> bool:
    return request.method == "POST" and "uploadId" in request.target


def versions(endpoint: str, bucket: str) -> int:
    page = client(endpoint).list_object_versions(Bucket=bucket, Prefix=KEY)
    return len(page.get("Versions", [])) + len(page.get("DeleteMarkers", []))


@pytest.mark.parametrize("capabilities", [HONOURS, IGNORES], ids=["conditional", "unconditional"])
@pytest.mark.parametrize(
    "fault",
    [
        lambda: Fault(on=puts, times=1, reset="before"),
        lambda: Fault(on=puts, times=1, reset="after"),
        lambda: Fault(on=puts, times=2, status=503),
        lambda: Fault(on=puts, times=1, status=500, code="InternalError"),
        lambda: Fault(on=puts, times=1, status=409, code="ConditionalRequestConflict"),
        lambda: Fault(on=lambda request: request.method == "HEAD", times=2, status=503),
    ],
    ids=["lost-before", "lost-after", "slow-down", "internal", "conflict", "head-slow-down"],
)  # fmt: skip
def test_a_put_that_was_answered_badly_is_made_once(
    proxy: FaultProxy, endpoint: str, name: str, tmp_path: Path, fault: Callable[[], Fault], capabilities: Capabilities
) -> None:  # C37
    store = opened(proxy.url, name, capabilities)
    path, digest = made(tmp_path)
    proxy.add(fault())
    stored = put_once(store, KEY, path, digest)
    assert stored.size_bytes == 50_000
    assert versions(endpoint, name) == 1
    fetch(store.reading, KEY, tmp_path / "back", digest)


@pytest.mark.parametrize("times", [1, 2])
def test_a_large_put_whose_end_was_not_answered_is_made_once(
    proxy: FaultProxy, endpoint: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:  # C37
    monkeypatch.setattr(immutable_s3, "PART_BYTES", 5 * 1024**2)
    store = opened(proxy.url, name)
    path, digest = made(tmp_path, 11 * 1024**2)
    proxy.add(Fault(on=completes, times=times, reset="after" if times == 1 else "before"))
    put_once(store, KEY, path, digest)
    assert versions(endpoint, name) == 1
    assert list(store.reading.incomplete_uploads()) == []
    fetch(store.reading, KEY, tmp_path / "back", digest)


def test_another_who_was_faster_with_other_bytes_is_not_overwritten(
    proxy: FaultProxy, endpoint: str, name: str, tmp_path: Path
) -> None:  # C42
    store = opened(proxy.url, name)
    path, digest = made(tmp_path)

    def faster(request: Request) -> bool:
        if puts(request):
            client(endpoint).put_object(Bucket=name, Key=KEY, Body=b"theirs")
        return False

    proxy.add(Fault(on=faster))
    with pytest.raises(Refused, match="other bytes"):
        put_once(store, KEY, path, digest)
    assert client(endpoint).get_object(Bucket=name, Key=KEY)["Body"].read() == b"theirs"


@pytest.mark.parametrize("status", [503, 403])
def test_a_lasting_storm_ends_in_time_and_concludes_nothing(
    proxy: FaultProxy, endpoint: str, name: str, tmp_path: Path, status: int
) -> None:  # C47
    path, digest = made(tmp_path)
    client(endpoint).put_object(Bucket=name, Key=KEY, Body=path.read_bytes())
    store = opened(proxy.url, name)
    proxy.add(Fault(status=status, code="SlowDown" if status == 503 else "AccessDenied"))
    began = time.monotonic()
    calls: list[Callable[[], Any]] = [
        lambda: put_once(store, KEY, path, digest),
        lambda: fetch(store.reading, KEY, tmp_path / "back", digest),
        lambda: store.remove(KEY),
        lambda: store.lock(KEY),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable) as failed:
            call()
        assert not isinstance(failed.value, ObjectDamaged)
        assert isinstance(failed.value, StoreDenied) == (status == 403)
    assert time.monotonic() - began < 240
    proxy.faults.clear()
    assert versions(endpoint, name) == 1
    assert not (tmp_path / "back").exists()


def test_a_body_that_breaks_off_is_read_again_and_never_taken_for_whole(
    proxy: FaultProxy, endpoint: str, name: str, tmp_path: Path
) -> None:  # C38
    path, digest = made(tmp_path)
    client(endpoint).put_object(Bucket=name, Key=KEY, Body=path.read_bytes())
    store = opened(proxy.url, name).reading
    proxy.add(Fault(on=lambda request: request.method == "GET", times=2, cut=20_000))
    fetch(store, KEY, tmp_path / "back", digest)
    proxy.add(Fault(on=lambda request: request.method == "GET", cut=20_000))
    with pytest.raises(StoreUnavailable):
        fetch(store, KEY, tmp_path / "again", digest)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("reset", ["before", "after"])
def test_a_removal_that_was_not_answered_is_asked_again_and_ends_in_nothing(
    proxy: FaultProxy, endpoint: str, name: str, tmp_path: Path, reset: str
) -> None:  # G98
    theirs = client(endpoint)
    for body in (b"one", b"two", b"three"):
        theirs.put_object(Bucket=name, Key=KEY, Body=body)
    store = opened(proxy.url, name)
    proxy.add(Fault(on=lambda request: request.method == "DELETE", times=2, reset=reset))
    removed = store.remove(KEY)
    assert removed.lock is None
    assert versions(endpoint, name) == 0
    assert store.reading.head(KEY) is None


def test_who_may_not_see_versions_cannot_say_that_an_object_is_gone(
    proxy: FaultProxy, endpoint: str, name: str
) -> None:  # G98
    client(endpoint).put_object(Bucket=name, Key=KEY, Body=b"x")
    store = opened(proxy.url, name)
    proxy.add(Fault(on=lambda request: "versions" in request.target, status=403, code="AccessDenied"))
    with pytest.raises(StoreDenied):
        store.remove(KEY)
    assert versions(endpoint, name) == 1


def test_a_refused_delete_of_one_version_is_no_success(proxy: FaultProxy, endpoint: str, name: str) -> None:
    client(endpoint).put_object(Bucket=name, Key=KEY, Body=b"x")
    store = opened(proxy.url, name)
    proxy.add(Fault(on=lambda request: request.method == "DELETE", status=403, code="AccessDenied"))
    with pytest.raises(StoreDenied):
        store.remove(KEY)
    assert versions(endpoint, name) == 1


def test_a_delete_that_lies_is_found_out(proxy: FaultProxy, endpoint: str, name: str) -> None:
    client(endpoint).put_object(Bucket=name, Key=KEY, Body=b"x")
    store = opened(proxy.url, name)
    proxy.add(Fault(on=lambda request: request.method == "DELETE", status=204))
    with pytest.raises(StoreUnavailable, match="still has"):
        store.remove(KEY)
    assert versions(endpoint, name) == 1


def test_no_secret_is_in_a_message(proxy: FaultProxy, name: str, tmp_path: Path) -> None:  # V13
    path, digest = made(tmp_path)
    store = opened(proxy.url, name)
    proxy.add(Fault(on=puts, status=400, code="BadDigest"))
    with pytest.raises(StoreUnavailable) as failed:
        put_once(store, KEY, path, digest)
    assert SECRET_KEY not in str(failed.value)
    assert ACCESS_KEY not in str(failed.value)
