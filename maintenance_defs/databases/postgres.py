"""PostgreSQL: one repeatable-read, read-only transaction; bulk reads by COPY into Arrow.

A first session holds the transaction and answers small questions; each bulk read gets a session of its
own on the exported snapshot, so all see the same moment. Every setting is local to its transaction:
behind a pooler, nothing is left in a session that an application gets next.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, lru_cache
from typing import Any

import adbc_driver_manager
import psycopg2
import pyarrow as pa
from adbc_driver_postgresql import dbapi as adbc
from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from maintenance_defs.core.errors import RowSecurity, SourceUnavailable
from maintenance_defs.databases.base import DatabaseEvidence, Table
from maintenance_defs.databases.statements import for_driver, name_parts, quote

CONNECT_SECONDS = 15
SETTINGS = {
    "row_security": "off",  # an error instead of rows hidden in silence (A07)
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "lock_timeout": "30s",  # a migration holds the table: say so instead of waiting for it
    "statement_timeout": "0",  # a bulk read takes as long as it takes …
    "idle_in_transaction_session_timeout": "0",  # … and the first session waits for it
    "transaction_timeout": "0",
}
# Names the server may not know are left out: transaction_timeout came with PostgreSQL 17.
SET_LOCAL = "SELECT set_config(name, value, true) FROM (VALUES {}) AS wanted (name, value)\n" \
    "WHERE EXISTS (SELECT FROM pg_settings WHERE lower(pg_settings.name) = lower(wanted.name))"  # fmt: skip

# Relations whose rows are not those of the snapshot's moment, and why.
STALE = {
    "m": "materialized view and as old as its last refresh",
    "f": "foreign table, whose server keeps transactions of its own",
}

# Asked before the snapshot is taken: what commits between the two has begun before, and is seen here.
# A session shows no xact_start to a role that may not see it (backend_type is null then), and none
# where track_activities is off. A prepared transaction keeps no record of its beginning.
ACTIVITY = """
SELECT clock_timestamp() AS taken_at,
       min(xact_start) FILTER (WHERE backend_type IS DISTINCT FROM 'autovacuum worker') AS oldest,
       count(*) FILTER (WHERE usesysid IS NOT NULL AND (backend_type IS NULL OR state = 'disabled')) AS hidden,
       (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()) AS prepared,
       (SELECT min(prepared) FROM pg_prepared_xacts WHERE database = current_database()) AS oldest_prepared,
       pg_is_in_recovery() AS is_replica,
       CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() END AS replayed_at,
       current_setting('server_version') AS version,
       (SELECT oid::int8 FROM pg_database WHERE datname = current_database()) AS database_oid,
       current_database() AS database_name
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

# Every relation rows can be read from, without the server's own; domains appear as what they stand on.
RELATIONS = """
WITH RECURSIVE base (oid, shown, typtype, typbasetype, typtypmod) AS (
    SELECT t.oid, t.oid, t.typtype, t.typbasetype, t.typtypmod FROM pg_type t WHERE t.typtype = 'd'
    UNION ALL
    SELECT base.oid, t.oid, t.typtype, t.typbasetype, CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE base.typtypmod END
      FROM base JOIN pg_type t ON t.oid = base.typbasetype WHERE base.typtype = 'd'
)
SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, c.relispartition AS is_partition,
       has_schema_privilege(n.oid, 'USAGE') AS usable, a.attname AS column,
       format_type(coalesce(b.shown, a.atttypid), coalesce(b.typtypmod, a.atttypmod)) AS type,
       has_column_privilege(c.oid, a.attnum, 'SELECT') AS readable
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN base b ON b.oid = a.atttypid AND b.typtype <> 'd'
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND {which}
 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C", a.attnum
"""


class PostgresDatabase:
    """A PostgreSQL database read through one exported snapshot at a time."""

    dialect = "postgresql"
    settings = SETTINGS

    def __init__(self, url: str) -> None:
        # The driver is always named: SQLAlchemy 2.1 reads a bare postgresql:// as psycopg 3.
        self._url = make_url(url).set(drivername="postgresql+psycopg2")
        place = f"{self._url.host or 'local socket'}" + (f":{self._url.port}" if self._url.port else "")
        self.display_url = f"postgresql://{place}/{self._url.database or ''}"

    def __repr__(self) -> str:
        return f"PostgresDatabase({self.display_url!r})"

    @contextmanager
    def snapshot(self) -> Iterator[PostgresSnapshot]:
        """See SourceDatabase. Raises RowSecurity, or SourceUnavailable (transient when trying again may help)."""
        with ExitStack() as stack:
            with self._explained():
                connection = stack.enter_context(_engine(self._url).connect())
                with connection.begin():
                    activity = dict(connection.exec_driver_sql(ACTIVITY).mappings().one())
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                stack.enter_context(connection.begin())
                connection.exec_driver_sql(set_local(self.settings))
                exported = connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
                evidence = self._evidence(connection, activity)
            snapshot = PostgresSnapshot(self, connection, str(exported), evidence)
            stack.callback(snapshot.close_readers)
            yield snapshot

    def _evidence(self, connection: Connection, seen: dict[str, Any]) -> DatabaseEvidence:
        try:
            with connection.begin_nested():
                system = connection.exec_driver_sql("SELECT system_identifier FROM pg_control_system()").scalar_one()
        except DBAPIError:  # not permitted on some managed servers: then its address has to do
            system = f"{self._url.host or ''}:{self._url.port or 5432}"
        oldest = [at for at in (seen["oldest"], seen["oldest_prepared"]) if at is not None]
        return DatabaseEvidence(
            identity=f"postgresql:{system}/{seen['database_name']}#{seen['database_oid']}",
            version=f"PostgreSQL {seen['version']}",
            taken_at=seen["taken_at"],
            oldest_transaction_at=min(oldest, default=None),
            # A replica shows its own sessions, never those of the primary, where the writers are.
            oldest_transaction_known=not (seen["hidden"] or seen["prepared"] or seen["is_replica"]),
            is_replica=seen["is_replica"],
            replayed_at=seen["replayed_at"],
        )

    @contextmanager
    def reading_session(self, exported: str) -> Iterator[adbc.Connection]:
        """A session for one bulk read, inside the exported snapshot."""
        with self.bulk_session() as connection:
            with self._explained(), connection.cursor() as cursor:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursor.execute(f"SET TRANSACTION SNAPSHOT '{exported}'")
                cursor.execute(set_local(self.settings))
                cursor.fetchall()
            yield connection

    @contextmanager
    def bulk_session(self, name: str = "maintenance bulk read") -> Iterator[adbc.Connection]:
        """A session of the driver that speaks Arrow; whatever it has not committed ends with it."""
        # libpq's own form: SQLAlchemy writes a blank in a URL as '+', which libpq does not read as one.
        parts = {
            "connect_timeout": CONNECT_SECONDS,
            **self._url.translate_connect_args(database="dbname", username="user"),
            **self._url.query,
            "client_encoding": "UTF8",
            "application_name": name,
        }
        escaped = {name: str(value).replace("\\", "\\\\").replace("'", "\\'") for name, value in parts.items()}
        conninfo = " ".join(f"{name}='{value}'" for name, value in escaped.items())
        with self._explained():
            connection = adbc.connect(conninfo, autocommit=True)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with explained(self.display_url, self._url):
            yield


class PostgresSnapshot:
    """See Snapshot. Bulk reads may overlap; all end with the snapshot."""

    dialect = "postgresql"

    def __init__(
        self, database: PostgresDatabase, connection: Connection, exported: str, evidence: DatabaseEvidence
    ) -> None:
        self.evidence = evidence
        self._database = database
        self._connection = connection
        self._exported = exported
        self._open = ExitStack()

    @property
    def connection(self) -> Connection:
        """The session that holds the transaction, for small questions to the catalogs."""
        return self._connection

    def table(self, name: str) -> Table | None:
        schema, table = name_parts(name)
        catalog = self._catalog_of("c.relname = %(name)s", {"name": table})  # a catalog may hold thousands of tables
        found = [t for (_, t) in _tables(catalog) if t.name == table and schema in (None, t.schema)]
        if len(found) > 1:
            raise SourceUnavailable(
                f"table {name!r} fits {' and '.join(str(t) for t in found)}. Nothing was read; write the schema."
            )
        for row in catalog if found else ():
            if row["kind"] in STALE and (row["schema"], row["name"]) == (found[0].schema, found[0].name):
                raise SourceUnavailable(
                    f"{found[0]} is a {STALE[row['kind']]}, so a row that needs its object may be absent. Nothing was "
                    f"read; declare the table it is made from."
                )
        return found[0] if found else None

    def tables(self) -> list[Table]:
        return [table for (listed, table) in self._readable if listed and table.columns]

    @cached_property
    def _readable(self) -> list[tuple[bool, Table]]:
        return _tables([row for row in self._catalog_of("true") if row["usable"] and row["readable"]])

    def _catalog_of(self, which: str, values: dict[str, str] | None = None) -> list[dict[str, Any]]:
        with self._explained():
            found = self._connection.exec_driver_sql(RELATIONS.format(which=which), values)
            return [dict(row) for row in found.mappings()]

    def quote(self, identifier: str) -> str:
        return quote(identifier)

    def as_text(self, column: str, type_name: str) -> str:
        return as_text(column, type_name)

    def as_instant(self, column: str, type_name: str) -> str:
        kind = re.sub(r"\(\d+\)", "", type_name)
        if kind == "timestamp with time zone":
            instant = column
        elif kind in ("timestamp without time zone", "date"):
            instant = f"({column}::timestamp AT TIME ZONE 'UTC')"
        elif kind in ("bigint", "integer"):
            # seconds since 1970, or milliseconds where seconds would be later than the year 5138
            instant = f"to_timestamp({column} / CASE WHEN abs({column}::numeric) >= 1e11 THEN 1000.0 ELSE 1.0 END)"
        else:
            raise SourceUnavailable(f"column {column} is {type_name}, which is no time. Nothing was read.")
        # 'infinity' and the years that neither Arrow nor Python can hold are no dates of an object.
        return f"(CASE WHEN {instant} >= '0001-01-01 00:00Z' AND {instant} < '9999-12-31 00:00Z' THEN {instant} END)"

    def by_key_bytes(self, expression: str) -> str:
        return f'({expression}) COLLATE "C"'

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> pa.RecordBatchReader:
        statement, values = for_driver(sql, parameters, "pyformat")
        if values:  # ADBC streams only without parameters: libpq quotes them into the text instead
            cursor = self._connection.connection.cursor()
            statement = cursor.mogrify(statement, values).decode()
            cursor.close()
        return self._stream(statement, lambda found: pa.schema([_plain(field) for field in found]))

    def stream(self, sql: str, *, batch_bytes: int | None = None) -> pa.RecordBatchReader:
        """Stream a SELECT without parameters, every column as the driver gives it: the caller knows which are exact."""
        return self._stream(sql, lambda found: found, batch_bytes)

    def _stream(
        self, statement: str, to_schema: Callable[[pa.Schema], pa.Schema], batch_bytes: int | None = None
    ) -> pa.RecordBatchReader:
        with ExitStack() as stack:
            session = stack.enter_context(self._database.reading_session(self._exported))
            cursor = stack.enter_context(session.cursor())
            if batch_bytes is not None:
                cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(batch_bytes)})
            with self._explained():
                cursor.execute(statement)
                source = cursor.fetch_record_batch()
            schema = to_schema(source.schema)
            opened = stack.pop_all()
            self._open.push(opened)

        def batches() -> Iterator[pa.RecordBatch]:
            with opened, self._explained():
                for batch in source:
                    yield batch if batch.schema == schema else batch.cast(schema)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def rows(self, sql: str, parameters: dict[str, Any] | None = None, limit: int = 1000) -> list[dict[str, Any]]:
        statement, values = for_driver(sql, parameters or {}, "pyformat")
        # A savepoint: one wrong query must not end the transaction of all others.
        with self._explained(), self._connection.begin_nested():
            # A server-side cursor: only `limit` rows leave the server.
            options = {"stream_results": True, "no_parameters": not values}
            result = self._connection.exec_driver_sql(statement, values or None, execution_options=options)
            with result:
                return [dict(row) for row in result.mappings().fetchmany(limit)]

    def small(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """The whole answer of a statement of ours, in a third of the round trips of `rows`.

        After a statement that fails the snapshot is of no use.
        """
        statement, values = for_driver(sql, parameters or {}, "pyformat")
        options = {"no_parameters": not values}
        with self._explained():
            result = self._connection.exec_driver_sql(statement, values or None, execution_options=options)
            return [dict(row) for row in result.mappings()]

    def any(self, sql: str) -> bool:
        """Whether a SELECT without parameters has a row. No lock of it stays. A statement that fails is undone."""
        with self._explained():
            savepoint = self._connection.begin_nested()
            try:
                asked = f"SELECT EXISTS ({sql}) AS found"
                options = {"no_parameters": True}
                return bool(self._connection.exec_driver_sql(asked, execution_options=options).scalar_one())
            finally:
                # Rolled back, which gives the locks back: a reading session of ours would wait behind whoever waits
                # for them.
                savepoint.rollback()

    def close_readers(self) -> None:
        self._open.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with self._database._explained():
            yield


@lru_cache(maxsize=16)
def _engine(url: URL) -> Engine:
    """One for each database: a new one asks the server for its version and settings before the first question."""
    return create_engine(
        url,
        poolclass=NullPool,
        connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "maintenance snapshot"},
    )


def as_text(column: str, type_name: str) -> str:
    """See Snapshot.as_text."""
    if type_name == "text":
        return column  # bare, so that an index on it serves
    if type_name.endswith("[]"):
        return f"to_json({column})::text"
    if type_name == "bpchar" or re.fullmatch(r"character(\(\d+\))?", type_name):
        return f"textin(bpcharout({column}))"  # the cast to text would cut the padding off (C12)
    return f"{column}::text"


def _tables(catalog: list[dict[str, Any]]) -> list[tuple[bool, Table]]:
    """(whether tables() lists it, the table): base tables and partitioned parents, not partitions or views."""
    found: dict[tuple[str, str], tuple[bool, Table]] = {}
    for row in catalog:
        listed = row["kind"] in ("r", "p") and not row["is_partition"]
        _, table = found.setdefault((row["schema"], row["name"]), (listed, Table(row["schema"], row["name"], {})))
        table.columns[row["column"]] = row["type"]
        if not (row["usable"] and row["readable"]):
            table.unreadable.add(row["column"])
    return list(found.values())


def set_local(settings: Mapping[str, str]) -> str:
    """Settings of one transaction."""
    return SET_LOCAL.format(", ".join(f"('{name}', '{value}')" for name, value in settings.items()))


def _plain(field: pa.Field) -> pa.Field:
    """The field as our schemas have it; raises where the driver would hand on its wire format."""
    if pa.types.is_integer(field.type):
        return pa.field(field.name, pa.int64())
    if pa.types.is_floating(field.type):
        return pa.field(field.name, pa.float64())
    if field.type in (pa.string(), pa.bool_(), pa.timestamp("us", tz="UTC")):
        return pa.field(field.name, field.type)
    raise SourceUnavailable(
        f"column {field.name!r} arrives as {field.type}, "
        f"which is not exact; cast it (as_text, as_instant). Nothing was read."
    )


_POLICY = re.compile(r'row-level security policy for table "([^"]+)"')
_TRANSIENT = ("08", "40", "53", "55P03", "57")  # connection, serialisation, resources, lock, shutdown


@contextmanager
def explained(display_url: str, url: URL) -> Iterator[None]:
    """Turn the drivers' errors into ours: no URL, no password, no SQL text with values in it."""
    try:
        yield
    except (SQLAlchemyError, psycopg2.Error, adbc_driver_manager.Error, OSError, pa.ArrowException) as error:
        driver = getattr(error, "orig", None) or error
        code = getattr(driver, "pgcode", None) or getattr(driver, "sqlstate", None) or ""
        said = str(driver).split("Query was:")[0].split("\nLINE ")[0].strip().split("\n")[0]
        if url.password:
            said = said.replace(str(url.password), "***")
        policy = _POLICY.search(said)
        if policy:
            raise RowSecurity(
                f"row-level security hides rows of table {policy[1]!r} from this role. Nothing was read; grant the "
                f"role BYPASSRLS, or read as the owner of the table."
            ) from None
        connection_failed = not code and not re.search(r"ERROR: ", said)
        raise SourceUnavailable(
            f"{display_url} could not be read: {said}. Nothing was concluded from it.",
            transient=connection_failed or code.startswith(_TRANSIENT),
        ) from None
