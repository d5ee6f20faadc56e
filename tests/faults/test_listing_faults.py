"""Listings through a network and a store that fail: never silently short, never endless, never leaking."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator

import pytest

from maintenance_defs.core.declaration import Store
from maintenance_defs.core.errors import IncompleteListing, StoreDenied, StoreUnavailable
from maintenance_defs.stores import open_store, s3_pages
from maintenance_defs.stores.base import ObjectStore
from maintenance_defs.stores.ranges import UnorderedListing, list_in_ranges
from tests.support.fault_proxy import Fault, FaultProxy, Request, fault_proxy
from tests.support.servers import ACCESS_KEY, SECRET_KEY, moto_server, seed

PAGE = 10
KEYS = [f"in/{n:05}" for n in range(25)]  # three pages


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        seed("faulty", KEYS)
        yield url


@pytest.fixture
def proxy(endpoint: str) -> Iterator[FaultProxy]:
    with fault_proxy(endpoint, PAGE) as made:
        yield made


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_pages, "PATIENCE_SECONDS", 1.5)


def opened(url: str, bucket: str = "faulty") -> ObjectStore:
    values = {"URL": f"s3://{bucket}?endpoint_url={url}", "AK": ACCESS_KEY, "SK": SECRET_KEY}
    declared = Store.model_validate(
        {
            "url_env": "URL",
            "scopes": [{"prefix": "in/"}],
            "credentials": {"access_key_env": "AK", "secret_key_env": "SK"},
        }
    )
    return open_store("media", declared, lambda variable, _: values[variable])


def keys(store: ObjectStore) -> list[str]:
    return [key for batch in store.list() for key in batch["key"].to_pylist()]


class page:  # reads as a word in the tables below
    """Picks the requests for one page of a listing: the first has no token."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tokens: list[str] = []

    def __call__(self, request: Request) -> bool:
        if "list-type=2" not in request.target:
            return False
        token = re.search(r"continuation-token=([^&]*)", request.target)
        name = token[1] if token else ""
        if name not in self.tokens:
            self.tokens.append(name)
        return self.tokens.index(name) == self.number - 1


def test_without_faults_the_proxy_changes_nothing(proxy: FaultProxy) -> None:
    assert keys(opened(proxy.url)) == KEYS


@pytest.mark.parametrize(
    "fault",
    [
        Fault(page(2), times=2, status=503),
        Fault(page(2), times=1, status=429, code="TooManyRequests"),
        Fault(page(2), times=1, status=500, code="InternalError"),
        Fault(page(2), times=1, status=200, code="SlowDown"),
        Fault(page(2), times=1, reset="before"),
        Fault(page(2), times=1, reset="after"),
        Fault(page(2), times=1, cut=1000),
        Fault(page(3), times=2, edit=lambda body: body[: len(body) // 2]),
        Fault(page(2), times=1, edit=lambda body: b"<html>maintenance</html>"),
        Fault(page(2), times=1, edit=lambda body: body.replace(b"<Contents>", b"<Contained>", 1)),
        Fault(page(2), times=1, edit=lambda body: re.sub(rb"<Contents>.*?</Contents>", b"", body, count=1, flags=re.S)),
        Fault(page(1), times=1, delay=0.3),
    ],
    ids=["503", "429", "500", "error-in-200", "reset", "reset-after", "cut", "half", "html", "broken", "short", "slow"],
)  # fmt: skip
def test_a_passing_fault_changes_nothing(proxy: FaultProxy, fault: Fault) -> None:
    again = 0 if fault.delay else fault.times
    proxy.add(fault)
    assert keys(opened(proxy.url)) == KEYS
    assert fault.times == 0
    assert len(proxy.seen) == 3 + again


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(page(3), status=503), "503 SlowDown"),
        (Fault(page(3), reset="before"), "ProtocolError"),
        (Fault(page(3), cut=100), "broke off"),
        (Fault(page(2), edit=lambda body: body[:-500]), "cut short"),
        (Fault(page(2), edit=lambda body: re.sub(rb"<NextContinuationToken>.*?</N\w+>", b"", body)), "more pages"),
        (Fault(page(2), edit=lambda body: re.sub(rb"<IsTruncated>.*?</IsTruncated>", b"", body)), "whether more"),
        (Fault(page(2), edit=lambda body: re.sub(rb"<KeyCount>\d+", b"<KeyCount>1007", body)), "counts 1007"),
        (Fault(page(2), edit=lambda body: body.replace(b"<Prefix/>", b"<Prefix>in/1</Prefix>")), "another question"),
    ],
    ids=["503-storm", "resets", "cut", "half", "no-token", "no-end", "miscounted", "prefix"],
)
def test_a_lasting_fault_is_incomplete_and_says_which_page(proxy: FaultProxy, fault: Fault, words: str) -> None:  # F14
    proxy.add(fault)
    started = time.monotonic()
    with pytest.raises(IncompleteListing) as raised:
        keys(opened(proxy.url))
    assert words in str(raised.value)
    assert "page " in str(raised.value)
    assert time.monotonic() - started < 10


def test_the_pages_before_a_fault_were_handed_on_and_then_it_raised(proxy: FaultProxy) -> None:
    proxy.add(Fault(page(3), status=503))
    listing = opened(proxy.url).list()
    assert next(listing).num_rows == PAGE
    assert next(listing).num_rows == PAGE
    with pytest.raises(IncompleteListing):
        next(listing)


def test_a_listing_that_says_it_ended_and_names_a_next_page_is_followed(proxy: FaultProxy) -> None:
    proxy.add(Fault(page(1), edit=lambda body: body.replace(b"true</IsTruncated>", b"false</IsTruncated>")))
    assert keys(opened(proxy.url)) == KEYS


@pytest.mark.parametrize("circle", [1, 2, 3])
def test_a_listing_that_runs_in_a_circle_ends(proxy: FaultProxy, circle: int) -> None:
    """Each answer is a page of the same one or two or three tokens, for ever."""
    sent = 0

    def turn(body: bytes) -> bytes:
        nonlocal sent
        sent += 1
        body = re.sub(rb"<IsTruncated>.*?</IsTruncated>", b"<IsTruncated>true</IsTruncated>", body)
        mine = b"t%d" % (sent % circle)
        body = re.sub(rb"<NextContinuationToken>.*?</N\w+>", b"", body)
        end = b"</ListBucketResult>"
        return body.replace(end, b"<NextContinuationToken>" + mine + b"</NextContinuationToken>" + end)

    proxy.add(Fault(edit=turn))
    # moto would refuse tokens it never made: ask it for its first page each time.
    forward = proxy.forward
    proxy.forward = lambda request, headers, body: forward(  # type: ignore[method-assign]
        Request(request.method, re.sub(r"&continuation-token=[^&]*", "", request.target)), headers, body
    )
    with pytest.raises(IncompleteListing, match="circle"):
        keys(opened(proxy.url))
    assert sent <= 3 * circle + 3


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (403, "AccessDenied", StoreDenied, "403 AccessDenied"),
        (403, "SignatureDoesNotMatch", StoreDenied, "credentials"),
        (403, "RequestTimeTooSkewed", StoreDenied, "clock"),
        (400, "ExpiredToken", StoreDenied, "ExpiredToken"),
        (404, "NoSuchBucket", StoreUnavailable, "no such bucket"),
        (301, "PermanentRedirect", StoreUnavailable, "elsewhere"),
        (400, "InvalidArgument", StoreUnavailable, "InvalidArgument"),
    ],
)
@pytest.mark.parametrize("number", [1, 3])
def test_a_refusal_is_told_at_once(
    proxy: FaultProxy, number: int, status: int, code: str, error: type[Exception], words: str
) -> None:
    fault = Fault(page(number), times=5, status=status, code=code)
    proxy.add(fault)
    with pytest.raises(error, match=words):
        keys(opened(proxy.url))
    assert fault.times == 4


def test_nobody_at_the_endpoint_is_not_an_empty_store() -> None:
    store = opened("http://127.0.0.1:9")
    with pytest.raises(IncompleteListing):
        keys(store)
    with pytest.raises(StoreUnavailable):
        store.head("in/00001")
    with pytest.raises(StoreUnavailable):
        store.clock()


def test_a_head_that_is_denied_is_neither_there_nor_gone(proxy: FaultProxy) -> None:
    proxy.add(Fault(lambda request: request.method == "HEAD", status=403, code="AccessDenied"))
    with pytest.raises(StoreDenied):
        opened(proxy.url).head("in/00001")


def test_a_head_of_404_does_not_count_when_the_bucket_is_gone(proxy: FaultProxy) -> None:
    proxy.add(Fault(lambda request: request.method == "HEAD", status=404))
    with pytest.raises(StoreUnavailable):
        opened(proxy.url).head("in/00001")


def test_a_busy_head_is_tried_again(proxy: FaultProxy) -> None:
    fault = Fault(lambda request: request.method == "HEAD", times=1, status=503)
    proxy.add(fault)
    assert opened(proxy.url).head("in/00001") is not None
    assert fault.times == 0


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"reset": "before"}, {"status": 403, "code": "SignatureDoesNotMatch"}]
)
def test_no_error_or_log_line_holds_a_secret_or_a_signature(
    proxy: FaultProxy, fault: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="urllib3")
    proxy.add(Fault(page(2), **fault))  # type: ignore[arg-type]  # a table of faults
    store = opened(proxy.url)
    with pytest.raises(StoreUnavailable) as raised:
        keys(store)
    assert re.search(r"X-Amz-Signature=[0-9a-f]{64}", proxy.seen[-1].target), "the page was not signed at all"
    chain: list[BaseException] = [raised.value]
    while (
        inner := chain[-1].__cause__ or (None if chain[-1].__suppress_context__ else chain[-1].__context__)
    ) is not None:
        chain.append(inner)
    told = " ".join(f"{error} {error!r}" for error in chain) + caplog.text + repr(store) + repr(vars(store))
    assert SECRET_KEY not in told
    assert "X-Amz-Signature=…" in caplog.text
    assert not re.search(r"[0-9a-f]{64}", told)


# -- parallel ranges


def ranged(store: ObjectStore, boundaries: list[str], tmp_path: object) -> list[str]:
    return [key for batch in list_in_ranges(store, boundaries, tmp_path) for key in batch["key"].to_pylist()]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "boundaries",
    [["in/00005"], ["in/00004x", "in/00017"], ["a", "in/00000", "in/00001", "in/00024", "zz"], ["zzz"], ["in/00009"]],
)
def test_ranges_find_every_key_once_and_in_order(proxy: FaultProxy, boundaries: list[str], tmp_path: object) -> None:
    assert ranged(opened(proxy.url), boundaries, tmp_path) == KEYS


def test_one_failing_range_fails_all(proxy: FaultProxy, tmp_path: object) -> None:
    proxy.add(Fault(lambda request: "start-after=in%2F00017" in request.target, status=503))
    with pytest.raises(IncompleteListing):
        ranged(opened(proxy.url), ["in/00005", "in/00017"], tmp_path)


def test_a_server_that_ignores_start_after_is_noticed(proxy: FaultProxy, tmp_path: object) -> None:
    forward = proxy.forward
    proxy.forward = lambda request, headers, body: forward(  # type: ignore[method-assign]
        Request(request.method, re.sub(r"&start-after=[^&]*", "", request.target)), headers, body
    )
    with pytest.raises(UnorderedListing):
        ranged(opened(proxy.url), ["in/00005"], tmp_path)


def test_a_key_that_falls_between_two_ranges_is_noticed(proxy: FaultProxy, tmp_path: object) -> None:
    """The second range begins one key late, as where the server's order is not ours."""

    def late(body: bytes) -> bytes:
        body = re.sub(rb"<Contents>\s*<Key>in/00006</Key>.*?</Contents>", b"", body, flags=re.S)
        return re.sub(rb"<KeyCount>\d+", b"<KeyCount>%d" % body.count(b"<Contents>"), body)

    proxy.add(Fault(lambda request: "start-after=in%2F00005" in request.target, edit=late))
    with pytest.raises(UnorderedListing):
        ranged(opened(proxy.url), ["in/00005"], tmp_path)
