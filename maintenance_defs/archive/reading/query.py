"""SQL over archives and their tables: SELECT only, each row once (S4-79, H109)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import duckdb
import pyarrow as pa

from maintenance_defs.archive.reading.dataset import SHREDDED
from maintenance_defs.archive.reading.views import ALL, MEMORY_LIMIT, Views, open_views
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused

BATCH_ROWS = 16_384


def query(
    home: Home,
    systems: Sequence[System],
    sql: str,
    *,
    hot: bool = True,
    since: datetime | None = None,
    until: datetime | None = None,
    memory_limit: str = MEMORY_LIMIT,
) -> pa.RecordBatchReader:
    """The answer to one SELECT over the views of open_views(), streaming.

    hot: have `<archive>_all` as well; a table is read only when the SQL names its view. since, until: how much of it.
    Files whose key was destroyed are left out, and counted in the schema's metadata.
    Raises Refused for other SQL and for what DuckDB refuses, FileDamaged, SourceUnavailable, StoreUnavailable.
    """
    _one_select(sql)
    answer = _answer(home, systems, sql, hot, since, until, memory_limit)
    schema = next(answer)
    assert isinstance(schema, pa.Schema)  # noqa: S101  # the first thing it gives
    return pa.RecordBatchReader.from_batches(schema, answer)


def _answer(
    home: Home,
    systems: Sequence[System],
    sql: str,
    hot: bool,
    since: datetime | None,
    until: datetime | None,
    memory_limit: str,
) -> Iterator[pa.Schema | pa.RecordBatch]:
    """The schema, then the batches; everything is closed and removed at the end, or when nobody asks for more."""

    def all_named(name: str) -> bool:
        return hot and _named(sql, name + ALL)

    known = [name + suffix for system in systems for name in system.archives for suffix in ("", ALL)[: 1 + hot]]
    with open_views(
        home, systems, hot=all_named, since=since, until=until, memory_limit=memory_limit,
        only=lambda name: is_asked(sql, name),
    ) as views:  # fmt: skip
        with _explained(views, known):
            reader = views.con.sql(sql).to_arrow_reader(BATCH_ROWS)
        yield reader.schema.with_metadata({SHREDDED: str(len(views.shredded))} if views.shredded else None)
        while True:
            with _explained(views, known):
                batch = next(reader, None)
            if batch is None:
                return
            yield batch


def is_asked(sql: str, archive: str) -> bool:
    """Whether the SQL can read the archive: others get no view."""
    return _named(sql, archive) or _named(sql, archive + ALL)


def _named(sql: str, view: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(view)}(?!\w)", sql, re.IGNORECASE) is not None


def _one_select(sql: str) -> None:
    try:
        with duckdb.connect(":memory:") as con:  # not the module's own connection: threads would share it
            statements = con.extract_statements(sql)
    except duckdb.Error as error:
        hint = 'A name that is also a word of SQL, as "at" is, wants double quotes.'
        raise Refused("bad_sql", f"Nothing was read. DuckDB cannot read the SQL. {hint}\n{error}") from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise Refused("not_a_select", "archives are only read: write one SELECT. Nothing was read.")


@contextmanager
def _explained(views: Views, known: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if views.handler.failed is not None:
            raise views.handler.failed from None
        said = str(error).strip()
        if isinstance(error, duckdb.ParserException | duckdb.BinderException | duckdb.CatalogException):
            # What DuckDB proposes instead is a table of its own that nobody may read.
            told = "\n".join(line for line in said.splitlines() if not line.startswith("Did you mean"))
            views_known = f"Views: {', '.join(known) or 'none'}."
            raise Refused("bad_sql", f"Nothing was read. {views_known} DuckDB says:\n{told}") from None
        damaged = views.damaged()
        if damaged is not None:
            raise damaged from None
        raise Refused("query_failed", f"DuckDB could not answer: {said}. Nothing was changed.") from None
