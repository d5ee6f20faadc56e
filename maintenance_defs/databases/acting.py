"""Changing rows of a source database: the only part of this room that writes.

Belongs here: deleting, updating and putting back rows that a plan names, each only while it is what the plan
saw. Does not: which rows, whether anyone agreed. Reading adapters have none of it (H14).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from sqlalchemy import make_url

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases import open_database
from maintenance_defs.databases.d1 import D1Database

LOCK_SECONDS = 10.0  # an application that holds a row longer keeps it: the row is tried again next time
STATEMENT_SECONDS = 60.0


@dataclass(frozen=True)
class RowImage:
    """One row, exact: every column's text as the database prints it without loss, and its type.

    PostgreSQL: CAST(text AS type) is the value. SQLite: type is "stored as " integer, real, text, blob, null or
    text/hex; a blob, and text that is no UTF-8 (text/hex), is written in hexadecimal.
    """

    table: str  # as it was asked for: public.assets
    row_id: str  # as a snapshot names the row
    columns: dict[str, str | None]  # generated columns too
    types: dict[str, str]
    id_columns: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For the ledger; holds the row's values, so not for logs."""
        return asdict(self) | {"id_columns": list(self.id_columns)}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """The image that as_json() gave."""
        return cls(**{**said, "id_columns": tuple(said["id_columns"])})


@dataclass(frozen=True)
class RowDone:
    """What became of one row.

    outcome: deleted, set, restored, already_absent, skipped_changed, skipped_kept, skipped_referenced (a foreign key
        refuses the deletion), failed, unknown.
    detail: why, in the database's words; never a value of the row.
    before, after: the row around the change; `after` of an update is what revert() wants to find.
    """

    row_id: str
    outcome: str
    detail: str | None = None
    before: RowImage | None = None
    after: RowImage | None = None


class Script(Protocol):
    """One transaction for statements that stand in files of the deployment."""

    def ask(self, sql: str) -> list[dict[str, Any]]:
        """A small result."""

    def run(self, sql: str) -> None:
        """Statements without a result; SQLite: one."""


class ActingDatabase(Protocol):
    """A database opened for acting. Every call is one transaction on a connection of its own.

    D1 takes larger calls in several transactions, each with its own part of the rows. PostgreSQL: the role needs
    SELECT, UPDATE (for the locks) and DELETE or INSERT, and must see every row.
    All raise SourceUnavailable when the database, table or a column cannot be reached, and Refused for what is no
    table of rows, an id that several rows share, and for schema `storage` (F12); then nothing was changed.
    """

    dialect: str
    display_url: str  # without credentials

    def images(self, table: str, id_columns: Sequence[str], row_ids: Sequence[str]) -> dict[str, RowImage]:
        """The rows as they are now, by id; absent rows are absent. A few thousand at a time."""

    def delete(
        self,
        table: str,
        id_columns: Sequence[str],
        images: Sequence[RowImage],
        where: str,
        parameters: Mapping[str, Any],
        *,
        rehearse: bool = False,
    ) -> list[RowDone]:
        """Delete the rows that still equal their image and satisfy `where`; one RowDone an image, in order.

        The rows are locked, compared, and the statement repeats the predicate; NULL is not satisfied. What a
        trigger or foreign key refuses fails alone. `:name` in `where` marks a parameter.
        rehearse: what would become of them; it is undone. SQLite does not see a deferred foreign key then, and D1,
        which cannot undo, rehearses nothing and tells of none.
        """

    def update(
        self,
        table: str,
        id_columns: Sequence[str],
        images: Sequence[RowImage],
        where: str,
        parameters: Mapping[str, Any],
        values: Mapping[str, Mapping[str, Any]],
    ) -> list[RowDone]:
        """Set columns, by row id, under the conditions of delete(); outcome `set`, with the row after it.

        Raises Refused when a value would change an id column.
        """

    def has(self, table: str, id_columns: Sequence[str], row_id: str, values: Mapping[str, Any]) -> bool:
        """Whether the row has what update() would set; false where there is no such row."""

    def restore(self, images: Sequence[RowImage]) -> list[RowDone]:
        """Insert deleted rows again. `restored` only when the row then equals its image, or did already."""

    def revert(self, before: Sequence[RowImage], after: Sequence[RowImage]) -> list[RowDone]:
        """Set back what an update changed, only while the row still equals `after`; pairs by row id."""

    def cascades(self, table: str, id_columns: Sequence[str], row_ids: Sequence[str]) -> dict[str, int]:
        """Rows of other tables that would go or change with these, by "schema.table (cascade)" (J06).

        Also "(set null)" and "(set default)". Follows cascades to the end; rows that triggers touch are not seen.
        """

    def script(self, *, read_only: bool = False) -> AbstractContextManager[Script]:
        """Begin; committed when the body ends, undone when it raises. Raises SourceUnavailable."""


def open_acting_database(
    url: str, *, lock_seconds: float = LOCK_SECONDS, statement_seconds: float = STATEMENT_SECONDS
) -> ActingDatabase:
    """The database of a URL, for changing rows; connects to nothing yet.

    Raises Refused("cannot_act") for anything but PostgreSQL, SQLite and D1, SourceUnavailable for no URL.
    """
    from maintenance_defs.databases.acting_d1 import ActingD1
    from maintenance_defs.databases.acting_postgres import ActingPostgres
    from maintenance_defs.databases.acting_sqlite import ActingSqlite

    reading = open_database(url)
    if isinstance(reading, D1Database):
        return ActingD1(reading)
    if reading.dialect == "postgresql":
        return ActingPostgres(url, lock_seconds, statement_seconds)
    if reading.dialect == "sqlite":
        return ActingSqlite(Path(str(make_url(url).database)), lock_seconds, statement_seconds)
    raise Refused(
        "cannot_act",
        f"rows of {reading.display_url} can be read, not changed: only PostgreSQL, SQLite and D1 have what a safe "
        f"change needs. Nothing was changed; leave `rows` out of the policy's act.",
    )
