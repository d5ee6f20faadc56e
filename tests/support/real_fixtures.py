"""One of each real server for the whole run; the test is skipped in sight where the program is not installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import real_servers


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_servers.RealS3]:
    with real_servers.swift(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_servers.RealS3]:
    with real_servers.ceph(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of the account devstoreaccount1."""
    with real_servers.azurite(tmp_path_factory.mktemp("azurite")) as endpoint:
        yield endpoint
