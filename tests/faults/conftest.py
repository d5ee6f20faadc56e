"""Buckets behind the fault proxy, plain and versioned, and little patience."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from maintenance_defs.stores import acting_s3_copy, acting_s3_remove, s3, s3_pages
from tests.support.acting import KEYS
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.servers import client, moto_server, seed


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
