"""Acts through a network and a store that fail or lie: every outcome is true of the bucket afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from maintenance_defs.stores.acting import Done
from tests.support.acting import KEYS, acts, assert_true, bulk, is_versioned, live, opened, see, single
from tests.support.fault_proxy import Answer, Fault, FaultProxy, Request
from tests.support.servers import client

Edit = Callable[[bytes], bytes]


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


def test_a_lost_request_that_is_done_late_counts_as_ours(proxy: FaultProxy, endpoint: str, bucket: str) -> None:
    """The first request is done only after the look, just before the second one, which then finds nothing."""
    store = opened(proxy.url, bucket)
    seen = see(store, KEYS[:1])
    forward = proxy.forward

    def late(request: Request, headers: dict[str, str], body: bytes) -> Answer:
        if single(request) and "versionId" not in request.target:
            client(endpoint).delete_object(Bucket=bucket, Key=KEYS[0])
        return forward(request, headers, body)

    proxy.forward = late  # type: ignore[method-assign]
    proxy.add(Fault(single, times=1, reset="before"))
    done = store.delete(seen)[0]
    assert done.outcome == "deleted"
    if is_versioned(endpoint, bucket):
        assert done.undo is not None
        assert store.restore(KEYS[0], done.undo) == Done(KEYS[0], "restored")
