"""What every source database can do for us."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa


@dataclass(frozen=True)
class DatabaseEvidence:
    """What a snapshot knows about its own moment (I5). Times are the database's, aware UTC."""

    identity: str  # system identifier and database, or the real path: for the pair fingerprint (E06)
    version: str
    taken_at: datetime  # just before the snapshot: what commits later has not been seen
    oldest_transaction_at: datetime | None  # begin of the oldest open one that may still write
    # False: this role may not see other sessions, a prepared transaction hides its begin, or this is a
    # replica, where the writers' sessions are elsewhere.
    oldest_transaction_known: bool
    is_replica: bool = False
    replayed_at: datetime | None = None  # how far a replica has come; None on a primary or when unknown


@dataclass(frozen=True)
class Table:
    """A table as it was found: qualified, with its columns, their type names, and those this role may not read."""

    schema: str | None
    name: str
    columns: dict[str, str]
    unreadable: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


class Snapshot(Protocol):
    """One consistent, read-only view; every read sees the same moment."""

    dialect: str  # "postgresql", "sqlite", or SQLAlchemy's name
    evidence: DatabaseEvidence

    def table(self, name: str) -> Table | None:
        """The table a declaration means, or None when there is none.

        Raises SourceUnavailable when an unqualified name fits tables of two schemas (A09).
        """

    def tables(self) -> list[Table]:
        """Every base table and partitioned parent the role may see, without the server's own schemas."""

    def quote(self, identifier: str) -> str:
        """The identifier as it must stand in SQL."""

    def as_text(self, column: str, type_name: str) -> str:
        """SQL for the quoted column as text (JSON as JSON text, arrays as JSON arrays, char(n) with its padding)."""

    def as_instant(self, column: str, type_name: str) -> str:
        """SQL for the quoted column as a UTC timestamp; naive values are read as UTC, numbers as Unix time.

        Write `{as_instant(…)} AS name`: SQLite has no types, the alias tells which column is an instant.
        Invalid and infinite values are NULL. Raises SourceUnavailable for a column that cannot be a time.
        """

    def by_key_bytes(self, expression: str) -> str:
        """An ORDER BY term that sorts text by its UTF-8 bytes."""

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> pa.RecordBatchReader:
        """Stream a SELECT; text columns as string, instants as timestamp[us, UTC]. `?` marks a parameter.

        Every other column must be a number or a boolean, else SourceUnavailable: nothing is read inexactly.
        Streams may overlap; each ends with its reader, or with the snapshot.
        """

    def rows(self, sql: str, parameters: dict[str, Any] | None = None, limit: int = 1000) -> list[dict[str, Any]]:
        """A small result as dictionaries; `:name` marks a parameter. For checks and queries.

        A statement that fails raises SourceUnavailable and leaves the snapshot usable.
        """


class SourceDatabase(Protocol):
    """A database as a source of references. Opens read-only; raises SourceUnavailable."""

    dialect: str
    display_url: str  # without credentials

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Begin the one transaction of a run: repeatable read, read-only, row_security off, UTC."""


def from_table(snapshot: Snapshot, table: Table) -> str:
    """The table as it must stand after FROM."""
    return ".".join(snapshot.quote(part) for part in (table.schema, table.name) if part)
