"""Ranges of an object through a network and a store that fail: exactly the bytes asked for, or an error."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from maintenance_defs.core.declaration import Store
from maintenance_defs.core.errors import StoreDenied, StoreUnavailable
from maintenance_defs.stores import open_store
from maintenance_defs.stores.base import ObjectStore
from tests.support.fault_proxy import Fault, FaultProxy, Request, fault_proxy
from tests.support.servers import ACCESS_KEY, SECRET_KEY, moto_server, seed

BODY = bytes(range(256)) * 400
KEY = "in/file"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        seed("range-faults", [KEY], body=BODY)
        yield url


@pytest.fixture
def proxy(endpoint: str) -> Iterator[FaultProxy]:
    with fault_proxy(endpoint) as made:
        yield made


def opened(url: str) -> ObjectStore:
    values = {"URL": f"s3://range-faults?endpoint_url={url}", "AK": ACCESS_KEY, "SK": SECRET_KEY}
    declared = Store.model_validate(
        {
            "url_env": "URL",
            "scopes": [{"prefix": "in/"}],
            "credentials": {"access_key_env": "AK", "secret_key_env": "SK"},
        }
    )
    return open_store("media", declared, lambda variable, _: values[variable])


def reading(request: Request) -> bool:
    return request.method == "GET" and request.target.split("?")[0].endswith(KEY)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(reading, times=2, cut=1000), Fault(reading, times=1, cut=0), Fault(reading, times=2, status=503),
        Fault(reading, times=1, reset="before"), Fault(reading, times=1, reset="after"),
        Fault(reading, times=2, edit=lambda body: body[:-7]), Fault(reading, times=1, delay=0.2),
    ],
    ids=["cut", "cut-at-once", "503", "reset", "reset-after", "short", "slow"],
)  # fmt: skip
def test_a_passing_fault_changes_nothing(proxy: FaultProxy, fault: Fault) -> None:
    proxy.add(fault)
    assert opened(proxy.url).read_range(KEY, 100, 50_000) == BODY[100:50_100]
    assert fault.times == 0


@pytest.mark.parametrize(
    "fault", [Fault(reading, cut=1000), Fault(reading, edit=lambda body: body[:-7])], ids=["cut", "short"]
)
def test_an_answer_that_is_always_short_is_an_error_and_not_the_end_of_the_object(
    proxy: FaultProxy, fault: Fault
) -> None:
    proxy.add(fault)
    with pytest.raises(StoreUnavailable) as raised:
        opened(proxy.url).read_range(KEY, 100, 50_000)
    assert raised.value.transient


def test_a_refusal_is_neither_missing_nor_empty(proxy: FaultProxy) -> None:  # F20
    proxy.add(Fault(reading, status=403, code="AccessDenied"))
    with pytest.raises(StoreDenied):
        opened(proxy.url).read_range(KEY, 0, 10)


def test_a_server_that_knows_no_ranges_is_understood(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends the whole object with 200."""
    real = proxy.forward

    def whole(request: Request, headers: dict[str, str], body: bytes) -> object:
        plain = {name: value for name, value in headers.items() if name.lower() != "range"}
        return real(request, plain, body)

    monkeypatch.setattr(proxy, "forward", whole)
    store = opened(proxy.url)
    assert store.read_range(KEY, 100, 50) == BODY[100:150]
    assert store.read_range(KEY, len(BODY) - 3, 50) == BODY[-3:]
    assert store.read_range(KEY, len(BODY) + 3, 50) == b""
