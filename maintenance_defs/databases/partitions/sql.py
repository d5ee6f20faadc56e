"""Small words for statements: asking the catalogs, acting, and what an error of the server was."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.databases.statements import quote

T = TypeVar("T")
NAME_BYTES = 63  # longer identifiers are cut by the server, and two may become one
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between attempts at a lock


def ask(connection: Connection, sql: str, **values: Any) -> list[dict[str, Any]]:
    """Rows of a query; with values its markers are %(name)s, and a percent sign is written twice."""
    result = connection.exec_driver_sql(sql, values or None, execution_options={"no_parameters": not values})
    return [dict(row) for row in result.mappings()]


def act(connection: Connection, *statements: str) -> int:
    """Run statements one at a time, each a message of its own; the row count of the last."""
    count = 0
    for statement in statements:
        with connection.exec_driver_sql(statement, execution_options={"no_parameters": True}) as done:
            count = done.rowcount
    return count


def qualified(schema: str, name: str) -> str:
    """schema.name, quoted."""
    return f"{quote(schema)}.{quote(name)}"


def literal(text: str) -> str:
    """The text as a literal that means the same whatever standard_conforming_strings says."""
    escaped = text.replace("'", "''")
    return f" E'{escaped.replace(chr(92), chr(92) * 2)}'" if "\\" in text else f"'{escaped}'"


def state_of(error: BaseException) -> str:
    """The server's five-letter code, or nothing when the connection was lost."""
    return getattr(getattr(error, "orig", None), "pgcode", None) or ""


def words_of(error: DBAPIError) -> str:
    """What the server said, in one line and without the detail, which may hold values."""
    said = getattr(getattr(error.orig, "diag", None), "message_primary", None) or str(error.orig)
    return f"{str(said).strip().splitlines()[0][:300]} ({state_of(error) or 'connection lost'})"


def fitted(base: str, ending: str, taken: Callable[[str], bool]) -> str:
    """`base` + `ending` in 63 bytes, whole characters, with a number where the name is taken."""
    for number in range(1000):
        tail = f"{ending}_{number}" if number else ending
        room = NAME_BYTES - len(tail.encode())
        name = base.encode()[:room].decode(errors="ignore") + tail
        if not taken(name):
            return name
    raise Refused("no_name", f"a thousand tables are named like {base}{ending}. Nothing was changed.")


def name_taken(connection: Connection, schema: str) -> Callable[[str], bool]:
    """Whether a relation or type of the schema has the name."""

    def taken(name: str) -> bool:
        found = ask(
            connection,
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %(schema)s AND c.relname = %(name)s) OR EXISTS (SELECT FROM pg_type t JOIN pg_namespace "
            "n ON n.oid = t.typnamespace WHERE n.nspname = %(schema)s AND t.typname = %(name)s) AS taken",
            schema=schema,
            name=name,
        )
        return bool(found[0]["taken"])

    return taken


def with_patience(attempt: Callable[[], T], seconds: float) -> T:
    """Repeat what failed for want of a lock, with growing pauses, for about `seconds`; then its error is raised.

    Between attempts nothing is held: whoever queued behind us goes on (V9).
    """
    until, pause = time.monotonic() + seconds, FIRST_PAUSE
    while True:
        try:
            return attempt()
        except SourceUnavailable as error:
            if not error.transient or time.monotonic() + pause > until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
