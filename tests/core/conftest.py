"""A connection on which values can be resolved."""

from collections.abc import Iterator

import duckdb
import pytest

from maintenance_defs.core.resolve import prepare


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        prepare(con)
        yield con
