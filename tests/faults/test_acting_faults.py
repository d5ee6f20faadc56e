"""Acts through a network and a store that fail or lie: every outcome is true of the bucket afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.core.declaration import Store
from maintenance_defs.stores import acting_s3_copy, acting_s3_remove, s3, s3_pages
from maintenance_defs.stores.acting import QUARANTINE, ActingStore, Done, Seen, open_acting
from maintenance_defs.stores.base import Capabilities, ObjectFacts
from tests.support.fault_proxy import Answer, Fault, FaultProxy, Request, fault_proxy
from tests.support.servers import ACCESS_KEY, SECRET_KEY, client, moto_server, seed

KEYS = [f"in/{n:02}" for n in range(25)]
PROBED = Capabilities(True, True, True, None, True, True)
Edit = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture(params=["plain", "versioned"])
def bucket(request: pytest.FixtureRequest, endpoint: str) -> str:
    name = f"faulty-{uuid.uuid4().hex[:12]}"
    theirs = client(endpoint)
    theirs.create_bucket(Bucket=name)
    if request.param == "versioned":
        theirs.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    seed(name, KEYS, body=b"12345")
    return name


@pytest.fixture
def proxy(endpoint: str) -> Iterator[FaultProxy]:
    with fault_proxy(endpoint) as made:
        yield made


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_pages, "PATIENCE_SECONDS", 1.5)
    monkeypatch.setattr(acting_s3_remove, "PATIENCE_SECONDS", 1.5)
    monkeypatch.setattr(acting_s3_copy, "ATTEMPTS", 3)
    monkeypatch.setattr(s3, "READ_SECONDS", 1)


def opened(url: str, bucket: str, capabilities: Capabilities = PROBED) -> ActingStore:
    values = {"URL": f"s3://{bucket}?endpoint_url={url}", "AK": ACCESS_KEY, "SK": SECRET_KEY}
    declared = Store.model_validate(
        {
            "url_env": "URL",
            "scopes": [{"prefix": "in/"}],
            "credentials": {"access_key_env": "AK", "secret_key_env": "SK"},
        }
    )
    return open_acting("media", declared, lambda variable, _: values[variable], capabilities=capabilities)


def see(store: ActingStore, keys: list[str]) -> list[Seen]:
    seen = []
    for key, facts in store.look(keys, dense=True).items():
        assert isinstance(facts, ObjectFacts)
        seen.append(Seen(key, facts.size_bytes, facts.modified_at, facts.etag))
    return seen


def live(endpoint: str, bucket: str) -> set[str]:
    found = client(endpoint).list_objects_v2(Bucket=bucket).get("Contents", [])
    return {item["Key"] for item in found if not item["Key"].startswith(".maintenance/")}


def is_versioned(endpoint: str, bucket: str) -> bool:
    return "Status" in client(endpoint).get_bucket_versioning(Bucket=bucket)


def assert_true(done: list[Done], there: set[str]) -> None:
    """No outcome says of an object what is not so."""
    for one in done:
        if one.outcome in ("deleted", "quarantined", "already_absent"):
            assert one.key not in there, one
        elif one.outcome in ("failed", "skipped_changed"):
            assert one.key in there, one
        else:
            assert one.outcome == "unknown", one
            assert one.detail


def bulk(request: Request) -> bool:
    return request.method == "POST" and "delete" in request.target


def single(request: Request) -> bool:
    return request.method == "DELETE"


def acts(request: Request) -> bool:
    return bulk(request) or single(request)


def without(key: str) -> Edit:
    return lambda body: re.sub(rb"<Deleted>\s*<Key>%s</Key>.*?</Deleted>" % key.encode(), b"", body, flags=re.S)


PASSING = {
    "503": {"status": 503},
    "429": {"status": 429, "code": "TooManyRequests"},
    "500": {"status": 500, "code": "InternalError"},
    "reset-before": {"reset": "before"},
    "reset-after": {"reset": "after"},
    "timeout": {"delay": 1.5},
}
ANSWERS: dict[str, Edit] = {
    "half": lambda body: body[: len(body) // 2],
    "html": lambda body: b"<html>maintenance</html>",
    "empty": lambda body: b"",
    "a-key-missing": without("in/03"),
    "another-key": lambda body: body.replace(b"<Key>in/03</Key>", b"<Key>in/03x</Key>"),
    "said-twice": lambda body: body.replace(
        b"</DeleteResult>", b"<Error><Key>in/03</Key><Code>InternalError</Code></Error></DeleteResult>"
    ),
}  # fmt: skip


@pytest.mark.parametrize("checked", [True, False], ids=["bulk", "each"])
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_passing_fault_ends_in_everything_deleted(
    proxy: FaultProxy, endpoint: str, bucket: str, fault: dict[str, Any], checked: bool
) -> None:
    store = opened(proxy.url, bucket)
    seen = see(store, KEYS[:5])
    added = Fault(acts, times=1 if "after" in fault.values() else 2, **fault)
    proxy.add(added)
    done = store.delete(seen, checked=checked)
    assert added.times == 0
    assert {one.outcome for one in done} == {"deleted"}, done
    assert live(endpoint, bucket) == set(KEYS[5:])
    if "delay" in fault or not is_versioned(endpoint, bucket):
        return  # a request that the store does much later leaves a marker of its own: restore then says so
    for one in done:
        assert one.undo is not None
        assert store.restore(one.key, one.undo) == Done(one.key, "restored")
    assert live(endpoint, bucket) == set(KEYS)


@pytest.mark.parametrize("edit", ANSWERS.values(), ids=ANSWERS)
def test_a_wrong_answer_is_asked_again_and_never_believed(
    proxy: FaultProxy, endpoint: str, bucket: str, edit: Edit
) -> None:
    store = opened(proxy.url, bucket)
    seen = see(store, KEYS)
    proxy.add(Fault(bulk, times=1, edit=edit))
    done = store.delete(seen, checked=True)
    assert [one.outcome for one in done] == ["deleted"] * len(KEYS), done
    assert live(endpoint, bucket) == set()
    assert "gone when asked again" in (done[3].detail or "")
    if is_versioned(endpoint, bucket):  # the undo is known although the answer was lost, and one act left one marker
        assert done[3].undo is not None
        assert store.restore("in/03", done[3].undo) == Done("in/03", "restored")
        assert live(endpoint, bucket) == {"in/03"}


def test_an_answer_that_never_names_a_key_that_stays_is_no_success(
    proxy: FaultProxy, endpoint: str, bucket: str
) -> None:
    """The store leaves one key out of the request and out of the answer, each time."""
    store = opened(proxy.url, bucket)
    seen = see(store, KEYS)
    skip_in_bulk(proxy, "in/03", b"")
    done = store.delete(seen, checked=True)
    assert live(endpoint, bucket) == {"in/03"}
    assert_true(done, {"in/03"})
    assert [one.key for one in done if one.outcome != "deleted"] == ["in/03"]
    assert done[3].outcome == "unknown"


def test_one_refused_key_is_failed_and_the_others_are_deleted(proxy: FaultProxy, endpoint: str, bucket: str) -> None:
    # F09 H10
    store = opened(proxy.url, bucket)
    seen = see(store, KEYS)
    skip_in_bulk(proxy, "in/03", b"<Error><Key>in/03</Key><Code>AccessDenied</Code><Message>secret</Message></Error>")
    done = store.delete(seen, checked=True)
    assert_true(done, live(endpoint, bucket))
    assert [(one.key, one.outcome) for one in done if one.outcome != "deleted"] == [("in/03", "failed")]
    assert "AccessDenied" in (done[3].detail or "")
    assert "secret" not in (done[3].detail or "")


def skip_in_bulk(proxy: FaultProxy, key: str, instead: bytes) -> None:
    forward = proxy.forward

    def skipping(request: Request, headers: dict[str, str], body: bytes) -> Answer:
        if not bulk(request):
            return forward(request, headers, body)
        kept = re.sub(rb"<Object><Key>%s</Key></Object>" % key.encode(), b"", body)
        headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        answer = forward(request, headers | {"Content-Length": str(len(kept))}, kept)
        said = instead if kept != body else b""
        if b"<Object>" not in kept:  # nothing left to ask the server for
            return Answer(200, {}, b"<DeleteResult>" + said + b"</DeleteResult>")
        return Answer(answer.status, answer.headers, answer.body.replace(b"</DeleteResult>", said + b"</DeleteResult>"))

    proxy.forward = skipping  # type: ignore[method-assign]


@pytest.mark.parametrize("checked", [True, False], ids=["bulk", "each"])
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"status": 503}, "failed"),
        ({"reset": "before"}, "unknown"),
        ({"status": 403, "code": "AccessDenied"}, "failed"),
    ],
    ids=["503", "reset", "denied"],
)
def test_a_lasting_fault_ends_in_time_and_says_so(
    proxy: FaultProxy, endpoint: str, bucket: str, fault: dict[str, Any], outcome: str, checked: bool
) -> None:
    store = opened(proxy.url, bucket)
    seen = see(store, KEYS[:5])
    proxy.add(Fault(acts, **fault))
    done = store.delete(seen, checked=checked)
    assert live(endpoint, bucket) == set(KEYS)
    assert {one.outcome for one in done} == {outcome}, done


@pytest.mark.parametrize("checked", [True, False], ids=["bulk", "each"])
def test_a_store_that_falls_silent_after_the_act_leaves_unknown(
    proxy: FaultProxy, endpoint: str, bucket: str, checked: bool
) -> None:
    store = opened(proxy.url, bucket)
    seen = see(store, KEYS[:5])
    fault = Fault(acts, reset="after")
    proxy.add(fault)
    proxy.add(Fault(lambda request: fault.times < 1_000_000, status=403, code="AccessDenied"))
    done = store.delete(seen, checked=checked)
    assert {one.outcome for one in done} == {"unknown"}, done
    assert live(endpoint, bucket) == set(KEYS[5:])


def test_a_head_that_is_denied_leaves_the_object_alone(proxy: FaultProxy, endpoint: str, bucket: str) -> None:  # F20
    store = opened(proxy.url, bucket)
    seen = see(store, KEYS[:5])
    proxy.add(Fault(lambda request: request.method == "HEAD", status=403, code="AccessDenied"))
    done = [*store.delete(seen), *store.quarantine(seen, "run")]
    assert {one.outcome for one in done} == {"unknown"}
    assert live(endpoint, bucket) == set(KEYS)
    assert not [request for request in proxy.seen if acts(request)]


def test_what_was_uploaded_while_the_answer_was_lost_stays(proxy: FaultProxy, endpoint: str, bucket: str) -> None:
    """The delete was applied, its answer lost, and the application uploads the key anew before we ask again."""
    store = opened(proxy.url, bucket)
    seen = see(store, KEYS[:1])
    forward = proxy.forward

    def uploaded(request: Request, headers: dict[str, str], body: bytes) -> Answer:
        answer = forward(request, headers, body)
        if acts(request):
            client(endpoint).put_object(Bucket=bucket, Key=KEYS[0], Body=b"newer")
        return answer

    proxy.forward = uploaded  # type: ignore[method-assign]
    proxy.add(Fault(acts, times=1, reset="after"))
    done = store.delete(seen, checked=True)[0]
    assert done.outcome == "unknown"
    assert "cannot be told" in (done.detail or "")
    assert client(endpoint).get_object(Bucket=bucket, Key=KEYS[0])["Body"].read() == b"newer"
    assert len([request for request in proxy.seen if acts(request)]) == 1


def test_what_changed_between_the_look_and_the_delete_stays(proxy: FaultProxy, endpoint: str, bucket: str) -> None:
    store = opened(proxy.url, bucket)
    seen = see(store, KEYS[:1])
    forward = proxy.forward

    def uploaded(request: Request, headers: dict[str, str], body: bytes) -> Answer:
        if acts(request):
            client(endpoint).put_object(Bucket=bucket, Key=KEYS[0], Body=b"newer")
        return forward(request, headers, body)

    proxy.forward = uploaded  # type: ignore[method-assign]
    done = [*store.delete(seen), *store.quarantine(seen, "run")]
    assert [one.outcome for one in done] == ["skipped_changed"] * 2
    assert client(endpoint).get_object(Bucket=bucket, Key=KEYS[0])["Body"].read() == b"newer"


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
    forward = proxy.forward

    def lying(request: Request, headers: dict[str, str], body: bytes) -> Answer:
        answer = forward(request, headers, body)
        if is_copy(request):
            client(endpoint).put_object(Bucket=bucket, Key=f"{QUARANTINE}run/{KEYS[0]}", Body=lie)
        return answer

    proxy.forward = lying  # type: ignore[method-assign]
    done = store.quarantine(seen, "run")[0]
    assert done.outcome == "failed"
    assert "the original was kept" in (done.detail or "")
    assert live(endpoint, bucket) == set(KEYS)


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
    from tests.faults.test_acting_faults import opened, see
    store = opened({url!r}, {bucket!r})
    store.quarantine(see(store, ["in/00"]), "run")
"""
LOCAL_CHILD = """
    import os, sys, signal
    sys.path.insert(0, {root!r})
    from tests.faults.test_acting_faults import local, see
    os.unlink = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
    store = local({folder!r})
    store.quarantine(see(store, ["in/00"]), "run")
"""
ROOT = str(Path(__file__).parents[2])


def local(folder: str) -> ActingStore:
    declared = Store.model_validate({"url_env": "URL", "scopes": [{"prefix": "in/"}]})
    return open_acting("media", declared, lambda variable, _: folder)


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
