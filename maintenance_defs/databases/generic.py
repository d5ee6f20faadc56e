"""Any other database that SQLAlchemy knows: streamed rows, the best isolation its dialect offers.

No arrays as JSON and no casts beyond standard SQL; its driver must be installed beside the platform.
Nobody tells such a snapshot which transactions are open: reports only, no plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
from sqlalchemy import URL, Connection, String, cast, create_engine, event, inspect, literal_column, make_url
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases import columnar
from maintenance_defs.databases.base import DatabaseEvidence, Table
from maintenance_defs.databases.statements import for_driver, name_parts

# The first that the dialect has: each gives every read of the transaction the same moment.
ISOLATION = ("SNAPSHOT", "REPEATABLE READ", "SERIALIZABLE")
OWN_SCHEMAS = {"information_schema", "pg_catalog", "sys", "mysql", "performance_schema", "INFORMATION_SCHEMA"}
# Said first in the transaction where the dialect has a word for it; elsewhere it is only rolled back.
READ_ONLY = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "mysql": "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    "mariadb": "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}


class GenericDatabase:
    """A database behind any SQLAlchemy URL. Raises SourceUnavailable where its driver is not installed."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self.dialect = self._url.get_backend_name()
        place = URL.create(self.dialect, host=self._url.host, port=self._url.port, database=self._url.database)
        self.display_url = place.render_as_string()
        try:
            self._engine = create_engine(self._url, poolclass=NullPool)
        except (NoSuchModuleError, ModuleNotFoundError):
            raise SourceUnavailable(
                f"{self.display_url}: the driver of {self._url.drivername!r} is not installed. Nothing was read."
            ) from None
        if self.dialect == "sqlite":
            # The stdlib driver begins no transaction for a SELECT: every read would see another moment.
            event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))

    def __repr__(self) -> str:
        return f"GenericDatabase({self.display_url!r})"

    @contextmanager
    def snapshot(self) -> Iterator[GenericSnapshot]:
        """See SourceDatabase. Always rolled back."""
        with ExitStack() as stack:
            with self._explained(connecting=True):
                connection = stack.enter_context(self._engine.connect())
            with self._explained():
                offered = connection.dialect.get_isolation_level_values(connection.connection.dbapi_connection)  # type: ignore[arg-type]
                level = next((level for level in ISOLATION if level in offered), None)
                if level is None:
                    raise SourceUnavailable(
                        f"{self.display_url} offers none of {', '.join(ISOLATION)}: its tables would be read at "
                        f"different moments. Nothing was read."
                    )
                connection = connection.execution_options(isolation_level=level)
                taken_at = datetime.now(UTC)
                stack.callback(connection.begin().rollback)
                if self.dialect in READ_ONLY:
                    connection.exec_driver_sql(READ_ONLY[self.dialect])
                version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
            yield GenericSnapshot(
                connection,
                self._explained,
                DatabaseEvidence(
                    identity=self.display_url,
                    version=f"{self.dialect} {version}".strip(),
                    taken_at=taken_at,  # this machine's clock: reading the server's differs by dialect
                    oldest_transaction_at=None,
                    oldest_transaction_known=False,
                ),
            )

    @contextmanager
    def _explained(self, connecting: bool = False) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            said = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
            if self._url.password:
                said = said.replace(str(self._url.password), "***")
            raise SourceUnavailable(
                f"{self.display_url} could not be read: {said}. Nothing was concluded from it.",
                transient=connecting or (isinstance(error, DBAPIError) and error.connection_invalidated),
            ) from None


class GenericSnapshot:
    """See Snapshot."""

    def __init__(self, connection: Connection, explained: Any, evidence: DatabaseEvidence) -> None:
        self.evidence = evidence
        self.dialect = connection.dialect.name
        self._connection = connection
        self._explained = explained

    def table(self, name: str) -> Table | None:
        schema, table = name_parts(name)
        found = [t for _, t in self._relations if t.name == table and schema in (None, t.schema)]
        if len(found) > 1:
            raise SourceUnavailable(
                f"table {name!r} fits {' and '.join(str(t) for t in found)}. Nothing was read; write the schema."
            )
        return found[0] if found else None

    def tables(self) -> list[Table]:
        return [table for is_view, table in self._relations if not is_view]

    @cached_property
    def _relations(self) -> list[tuple[bool, Table]]:
        found = []
        with self._explained():
            inspector = inspect(self._connection)
            for schema in inspector.get_schema_names():
                if schema in OWN_SCHEMAS:
                    continue
                for is_view, names in (
                    (False, inspector.get_table_names(schema)),
                    (True, inspector.get_view_names(schema)),
                ):
                    for name in names:
                        columns = {c["name"]: str(c["type"]) for c in inspector.get_columns(name, schema)}
                        found.append((is_view, Table(schema, name, columns)))
        return found

    def quote(self, identifier: str) -> str:
        return self._connection.dialect.identifier_preparer.quote_identifier(identifier)

    def as_text(self, column: str, type_name: str) -> str:
        return str(cast(literal_column(column), String).compile(dialect=self._connection.dialect))

    def as_instant(self, column: str, type_name: str) -> str:
        return f"({column} {columnar.INSTANT})"

    def by_key_bytes(self, expression: str) -> str:
        if self.dialect == "postgresql":
            return f'({expression}) COLLATE "C"'
        if self.dialect in ("mysql", "mariadb"):
            return f"CAST({expression} AS BINARY)"
        return expression  # order is checked where it matters, and sorted once where it fails

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> pa.RecordBatchReader:
        statement, values = for_driver(sql, parameters, self._connection.dialect.paramstyle)
        with self._explained():
            result = self._execute(statement, values)

            def fetch(rows: int) -> Sequence[Any]:
                with self._explained():  # fetchmany keeps to its number; partitions() without one reads everything
                    batch: Sequence[Any] = result.fetchmany(rows)
                    return batch

            return columnar.reader(list(result.keys()), sql, fetch, result.close)

    def rows(self, sql: str, parameters: dict[str, Any] | None = None, limit: int = 1000) -> list[dict[str, Any]]:
        statement, values = for_driver(sql, parameters or {}, self._connection.dialect.paramstyle)
        with self._explained(), self._connection.begin_nested(), self._execute(statement, values) as result:
            return [dict(row) for row in result.mappings().fetchmany(limit)]

    def _execute(self, statement: str, values: Any) -> Any:
        options = {"stream_results": True, "max_row_buffer": columnar.BATCH_ROWS, "no_parameters": not values}
        return self._connection.exec_driver_sql(statement, values or None, execution_options=options)
