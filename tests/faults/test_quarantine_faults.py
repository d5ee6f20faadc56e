"""Quarantine through faults, lies, locks and kills: one copy, and never an original lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.stores import acting_s3_copy
from maintenance_defs.stores.acting import QUARANTINE, Done
from tests.faults.test_acting_faults import PASSING
from tests.support.acting import KEYS, PROBED, live, local, opened, see, single
from tests.support.fault_proxy import Answer, Fault, FaultProxy, Request
from tests.support.servers import client, seed


def is_copy(request: Request) -> bool:
    return request.method == "PUT" and QUARANTINE in request.target


COPY_FAULTS = {name: fault for name, fault in PASSING.items() if name != "429"}


@pytest.mark.parametrize("fault", COPY_FAULTS.values(), ids=COPY_FAULTS)
@pytest.mark.parametrize("bucket", ["plain"], indirect=True)
def test_a_passing_fault_of_the_copy_ends_in_one_copy(
    proxy: FaultProxy, endpoint: str, bucket: str, fault: dict[str, Any]
) -> None:
    store = opened(proxy.url, bucket)
    seen = see(store, KEYS[:3])
    proxy.add(Fault(is_copy, times=2, **fault))
    done = store.quarantine(seen, "run")
    assert {one.outcome for one in done} == {"quarantined"}, done
    assert live(endpoint, bucket) == set(KEYS[3:])
    found = client(endpoint).list_objects_v2(Bucket=bucket, Prefix=QUARANTINE)["Contents"]
    assert [item["Key"] for item in found] == [f"{QUARANTINE}run/{key}" for key in KEYS[:3]]
    for one in done:
        assert one.undo is not None
        assert store.restore(one.key, one.undo) == Done(one.key, "restored")
    assert live(endpoint, bucket) == set(KEYS)


@pytest.mark.parametrize("lie", [b"short", b"54321", b""], ids=["size", "bytes", "empty"])
@pytest.mark.parametrize("bucket", ["plain"], indirect=True)
def test_a_copy_that_is_not_the_original_keeps_the_original(
    proxy: FaultProxy, endpoint: str, bucket: str, lie: bytes
) -> None:
    store = opened(proxy.url, bucket)
    seen = see(store, KEYS[:1])
    lie = lie[:4] if lie == b"short" else lie
    after_the_copy(
        proxy, lambda: client(endpoint).put_object(Bucket=bucket, Key=f"{QUARANTINE}run/{KEYS[0]}", Body=lie)
    )
    done = store.quarantine(seen, "run")[0]
    assert done.outcome == "failed"
    assert "the original was kept" in (done.detail or "")
    assert live(endpoint, bucket) == set(KEYS)


@pytest.mark.parametrize(
    ("lie", "what"),
    [({"ContentType": "text/html"}, "another ContentType"), ({"Metadata": {"by": "eve"}}, "other metadata"),
     ({"Tagging": "keep=no"}, "other tags")],
)  # fmt: skip
@pytest.mark.parametrize("bucket", ["plain"], indirect=True)
def test_a_copy_that_lost_what_belongs_to_its_bytes_keeps_the_original(
    proxy: FaultProxy, endpoint: str, bucket: str, lie: dict[str, Any], what: str
) -> None:  # I01
    theirs, key = client(endpoint), KEYS[0]
    whole = {"Body": b"12345", "ContentType": "image/png", "Metadata": {"by": "ada"}, "Tagging": "keep=yes"}
    theirs.put_object(Bucket=bucket, Key=key, **whole)
    store = opened(proxy.url, bucket)
    seen = see(store, [key])
    after_the_copy(proxy, lambda: theirs.put_object(Bucket=bucket, Key=f"{QUARANTINE}run/{key}", **whole | lie))
    done = store.quarantine(seen, "run")[0]
    assert done.outcome == "failed"
    assert f"the copy has {what}; the original was kept" in (done.detail or "")
    assert live(endpoint, bucket) == set(KEYS)


@pytest.mark.parametrize("bucket", ["plain"], indirect=True)
def test_a_copy_is_not_believed_where_etags_are_no_hashes(proxy: FaultProxy, endpoint: str, bucket: str) -> None:
    """F15: of an object that was uploaded in parts."""
    theirs, key = client(endpoint), KEYS[0]
    in_parts(theirs, bucket, key, b"12345")
    store = opened(proxy.url, bucket)
    seen = see(store, [key])
    after_the_copy(proxy, lambda: in_parts(theirs, bucket, f"{QUARANTINE}run/{key}", b"54321"))
    done = store.quarantine(seen, "run")[0]
    assert (done.outcome, done.detail) == ("failed", "the copy has other bytes; the original was kept")
    assert live(endpoint, bucket) == set(KEYS)


@pytest.mark.parametrize("bucket", ["plain"], indirect=True)
def test_what_is_written_while_an_object_comes_back_is_not_overwritten(
    proxy: FaultProxy, endpoint: str, bucket: str
) -> None:  # I02
    theirs, key = client(endpoint), KEYS[0]
    store = opened(proxy.url, bucket)
    undo = store.quarantine(see(store, [key]), "run")[0].undo
    assert undo is not None
    forward = proxy.forward

    def strict(request: Request, headers: dict[str, str], body: bytes) -> Answer:
        """As S3 does, and moto does not: the condition holds for copies too."""
        if copies(headers):
            theirs.put_object(Bucket=bucket, Key=key, Body=b"newer")
            if "*" in {value for name, value in headers.items() if name.lower() == "if-none-match"}:
                return Answer(412, {}, b"<Error><Code>PreconditionFailed</Code></Error>")
        return forward(request, headers, body)

    proxy.forward = strict  # type: ignore[method-assign]
    assert store.restore(key, undo).outcome == "failed"
    assert theirs.get_object(Bucket=bucket, Key=key)["Body"].read() == b"newer"
    assert theirs.get_object(Bucket=bucket, Key=undo["key"])["Body"].read() == b"12345"


@pytest.mark.parametrize("bucket", ["plain"], indirect=True)
def test_an_object_keeps_its_class_in_quarantine_and_back(endpoint: str, bucket: str) -> None:
    """I01: a cold one would cost as much as a warm one from then on."""
    theirs, key = client(endpoint), KEYS[0]
    theirs.put_object(Bucket=bucket, Key=key, Body=b"12345", StorageClass="STANDARD_IA")
    store = opened(endpoint, bucket)
    undo = store.quarantine(see(store, [key]), "run")[0].undo
    assert undo is not None
    assert theirs.head_object(Bucket=bucket, Key=undo["key"])["StorageClass"] == "STANDARD_IA"
    assert store.restore(key, undo).outcome == "restored"
    assert theirs.head_object(Bucket=bucket, Key=key)["StorageClass"] == "STANDARD_IA"


def copies(headers: dict[str, str]) -> bool:
    return any(name.lower() == "x-amz-copy-source" for name in headers)


def after_the_copy(proxy: FaultProxy, act: Callable[[], object]) -> None:
    """What others do right after it."""
    forward = proxy.forward

    def forwarding(request: Request, headers: dict[str, str], body: bytes) -> Answer:
        answer = forward(request, headers, body)
        if copies(headers):
            act()
        return answer

    proxy.forward = forwarding  # type: ignore[method-assign]


def in_parts(theirs: Any, bucket: str, key: str, body: bytes) -> None:
    place = {"Bucket": bucket, "Key": key}
    upload = theirs.create_multipart_upload(**place)["UploadId"]
    part = theirs.upload_part(**place, UploadId=upload, PartNumber=1, Body=body)
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    theirs.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})


@pytest.mark.parametrize("bucket", ["plain"], indirect=True)
def test_an_object_too_large_to_copy_is_kept_and_said(
    proxy: FaultProxy, endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # F15
    monkeypatch.setattr(acting_s3_copy, "COPY_LIMIT_BYTES", 4)
    done = opened(proxy.url, bucket).quarantine(see(opened(proxy.url, bucket), KEYS[:1]), "run")[0]
    assert done.outcome == "failed"
    assert "too large to copy" in (done.detail or "")
    assert live(endpoint, bucket) == set(KEYS)


def test_what_the_store_holds_is_failed_and_the_others_go(endpoint: str) -> None:  # F06
    theirs = client(endpoint)
    bucket = f"locked-{uuid.uuid4().hex[:12]}"
    theirs.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    seed(bucket, KEYS[:3])
    theirs.put_object_legal_hold(Bucket=bucket, Key=KEYS[1], LegalHold={"Status": "ON"})
    store = opened(endpoint, bucket)
    for checked in (True, False):
        done = store.delete(see(store, KEYS[:3]), checked=checked)
        assert [one.outcome for one in done] == ["deleted", "failed", "deleted"]
        assert "locked" in (done[1].detail or "")
        assert live(endpoint, bucket) == {KEYS[1]}
        for one in (done[0], done[2]):
            assert one.undo is not None
            assert store.restore(one.key, one.undo).outcome == "restored"
    seen = see(store, KEYS[:1])[0]
    undo = store.quarantine([seen], "run")[0].undo
    assert undo is not None
    theirs.put_object_legal_hold(Bucket=bucket, Key=KEYS[0], VersionId=undo["version_id"], LegalHold={"Status": "ON"})
    purged = store.purge(undo, seen)
    assert purged.outcome == "failed"
    assert "locked" in (purged.detail or "")
    assert store.restore(KEYS[0], undo).outcome == "restored"


def test_where_no_condition_and_no_version_protects_a_delete_is_not_called_safe(endpoint: str) -> None:  # F08
    bucket = f"sloppy-{uuid.uuid4().hex[:12]}"
    client(endpoint).create_bucket(Bucket=bucket)
    assert opened(endpoint, bucket).deletes_safely()
    assert not opened(endpoint, bucket, replace(PROBED, conditional_delete=False)).deletes_safely()
    client(endpoint).put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert opened(endpoint, bucket, replace(PROBED, conditional_delete=False)).deletes_safely()
    client(endpoint).put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert not opened(endpoint, bucket, replace(PROBED, conditional_delete=False)).deletes_safely()


# -- killed in the middle

CHILD = """
    import sys
    sys.path.insert(0, {root!r})
    from tests.support.acting import opened, see
    store = opened({url!r}, {bucket!r})
    store.quarantine(see(store, ["in/00"]), "run")
"""
LOCAL_CHILD = """
    import os, sys, signal
    sys.path.insert(0, {root!r})
    from tests.support.acting import local, see
    os.unlink = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
    store = local({folder!r})
    store.quarantine(see(store, ["in/00"]), "run")
"""
ROOT = str(Path(__file__).parents[2])


@pytest.mark.parametrize("bucket", ["plain"], indirect=True)
def test_killed_between_copy_and_delete_the_next_run_completes_with_one_copy(
    proxy: FaultProxy, endpoint: str, bucket: str
) -> None:  # F16
    seen = see(opened(endpoint, bucket), KEYS[:1])
    reached = threading.Event()
    fault = Fault(lambda request: single(request) and not reached.set(), times=1, delay=3, reset="before")
    proxy.add(fault)
    code = textwrap.dedent(CHILD.format(root=ROOT, url=proxy.url, bucket=bucket))
    child = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": ROOT})
    assert reached.wait(60)
    child.send_signal(signal.SIGKILL)
    assert child.wait(10) == -signal.SIGKILL
    assert live(endpoint, bucket) == set(KEYS)
    done = opened(endpoint, bucket).quarantine(seen, "run")[0]
    assert done.outcome == "quarantined"
    assert live(endpoint, bucket) == set(KEYS[1:])
    found = client(endpoint).list_objects_v2(Bucket=bucket, Prefix=QUARANTINE)["Contents"]
    assert [item["Key"] for item in found] == [f"{QUARANTINE}run/in/00"]


def test_killed_between_link_and_unlink_the_next_run_completes_with_one_copy(tmp_path: Path) -> None:  # F16
    (tmp_path / "in").mkdir()
    (tmp_path / "in/00").write_bytes(b"12345")
    store = local(str(tmp_path))
    seen = see(store, ["in/00"])
    code = textwrap.dedent(LOCAL_CHILD.format(root=ROOT, folder=str(tmp_path)))
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": ROOT}, check=False)
    assert done.returncode == -signal.SIGKILL
    copy = tmp_path / QUARANTINE / "run/in/00"
    assert copy.read_bytes() == (tmp_path / "in/00").read_bytes() == b"12345"
    assert store.quarantine(seen, "run")[0].outcome == "quarantined"
    assert not (tmp_path / "in/00").exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [copy]
