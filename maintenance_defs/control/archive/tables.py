"""The tables of units, files, keys and periods; revision 0003 creates them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Named, TypedColumns

from maintenance_defs.control.retention.tables import ExactText
from maintenance_defs.control.tables import Number, UtcDateTime, metadata


class UnitColumns(TypedColumns):
    """The rows that one table had in [lower, upper). See units.STATES."""

    number: Named[int] = Column(Number, sa.Identity(), primary_key=True)
    id: Named[str] = Column(sa.Text, unique=True)
    system: Named[str] = Column(sa.Text)
    archive: Named[str] = Column(sa.Text)
    source: Named[str] = Column(sa.Text)  # system identifier and database: a fork is another source (G103)
    table: Named[str] = Column(sa.Text)  # as declared
    relation: Named[str] = Column(ExactText)  # schema.name of the partition, or the table itself
    relation_oid: Named[int] = Column(sa.BigInteger)
    lower: Named[datetime] = Column(UtcDateTime)
    upper: Named[datetime] = Column(UtcDateTime)
    label: Named[str] = Column(sa.Text)  # '2025-10', of the UTC lower bound
    part: Named[int] = Column(sa.Integer)  # 0, and one more for each time rows arrived after the last one had left
    generation: Named[int] = Column(sa.Integer)  # how often it was exported anew because its rows had changed
    method: Named[str] = Column(sa.Text)  # how rows leave: "partition", "rows"
    state: Named[str] = Column(sa.Text)
    schema_version: Named[int | None] = Column(sa.Integer)
    rows: Named[int | None] = Column(sa.BigInteger)  # of the whole unit, archived or not
    heap_bytes: Named[int | None] = Column(sa.BigInteger)
    fingerprint: Named[str | None] = Column(sa.Text)
    groups: Named[list[dict[str, Any]] | None] = Column(sa.JSON(none_as_null=True))  # organisation, rows, bound for
    row_ids: Named[str | None] = Column(sa.Text)  # artefact of keys and hashes, where rows leave one by one
    lease_owner: Named[str | None] = Column(sa.Text)
    lease_until: Named[datetime | None] = Column(UtcDateTime)
    planned_at: Named[datetime] = Column(UtcDateTime)
    changed_at: Named[datetime] = Column(UtcDateTime)  # when it entered its state
    left_at: Named[datetime | None] = Column(UtcDateTime)  # detached, or the first row went: the archive is read now
    removed_at: Named[datetime | None] = Column(UtcDateTime)
    message: Named[str | None] = Column(sa.Text)  # why it did not go on
    evidence: Named[dict[str, Any]] = Column(sa.JSON)  # seconds of each step and the like


unit = sa.Table(
    "archive_unit",
    metadata,
    UnitColumns,
    sa.UniqueConstraint("system", "archive", "source", "lower", "upper", "part", name="archive_unit_once"),
    sa.Index("archive_unit_state", "system", "archive", "state"),
)


class FileColumns(TypedColumns):
    """One immutable object. state: stored (nobody reads it yet), live, superseded, expired (a tombstone)."""

    id: Named[str] = Column(sa.Text, primary_key=True)
    unit_id: Named[str] = Column(sa.Text)
    generation: Named[int] = Column(sa.Integer)  # of the unit, the last one that this file belongs to
    system: Named[str] = Column(sa.Text)
    archive: Named[str] = Column(sa.Text)
    store: Named[str] = Column(sa.Text)
    key: Named[str] = Column(ExactText)
    key_hash: Named[str] = Column(sa.String(32))
    version_id: Named[str | None] = Column(sa.Text)
    sha256: Named[str] = Column(sa.String(64))
    footer_sha256: Named[str | None] = Column(sa.String(64))  # of the footer alone, which has no checksum of its own
    size_bytes: Named[int] = Column(sa.BigInteger)
    rows: Named[int] = Column(sa.BigInteger)
    label: Named[str] = Column(ExactText)  # organisation, class or 'all', as the layout says
    first_at: Named[datetime | None] = Column(UtcDateTime)
    last_at: Named[datetime | None] = Column(UtcDateTime)
    schema_version: Named[int] = Column(sa.Integer)
    row_groups: Named[int] = Column(sa.Integer)
    state: Named[str] = Column(sa.Text)
    key_id: Named[str | None] = Column(sa.Text)  # of archive_key, where the file is encrypted
    wrapped_key: Named[str | None] = Column(sa.Text)  # the file's own key, wrapped
    created_at: Named[datetime] = Column(UtcDateTime)
    ended_at: Named[datetime | None] = Column(UtcDateTime)
    ended_why: Named[str | None] = Column(sa.Text)
    object_gone_at: Named[datetime | None] = Column(UtcDateTime)  # seen absent after it ended (V11)


file = sa.Table(
    "archive_file",
    metadata,
    FileColumns,
    sa.UniqueConstraint("system", "store", "key_hash", name="archive_file_key"),
    sa.Index("archive_file_state", "system", "archive", "state"),
    sa.Index("archive_file_unit", "unit_id"),
)


class GroupColumns(TypedColumns):
    """The rows of one organisation in one file, and their digest."""

    file_id: Named[str] = Column(sa.Text, primary_key=True)
    organisation: Named[str] = Column(ExactText, primary_key=True)
    rows: Named[int] = Column(sa.BigInteger)
    high: Named[str] = Column(sa.Text)  # sums of the halves of the rows' hashes, decimal
    low: Named[str] = Column(sa.Text)
    first_at: Named[datetime | None] = Column(UtcDateTime)
    last_at: Named[datetime | None] = Column(UtcDateTime)


group = sa.Table("archive_group", metadata, GroupColumns)


class IndexColumns(TypedColumns):
    """Where the rows of one value of the lookup column are."""

    file_id: Named[str] = Column(sa.Text, primary_key=True)
    value_hash: Named[str] = Column(sa.String(32), primary_key=True)
    organisation: Named[str] = Column(ExactText, primary_key=True)
    value: Named[str] = Column(ExactText)
    rows: Named[int] = Column(sa.BigInteger)
    first_group: Named[int] = Column(sa.Integer)
    last_group: Named[int] = Column(sa.Integer)
    first_at: Named[datetime | None] = Column(UtcDateTime)
    last_at: Named[datetime | None] = Column(UtcDateTime)


index = sa.Table("archive_index", metadata, IndexColumns, sa.Index("archive_index_value", "value_hash"))


class SchemaColumns(TypedColumns):
    """The columns of a table as they once were; a change is a new version."""

    system: Named[str] = Column(sa.Text, primary_key=True)
    archive: Named[str] = Column(sa.Text, primary_key=True)
    version: Named[int] = Column(sa.Integer, primary_key=True, autoincrement=False)
    digest: Named[str] = Column(sa.String(64))
    columns: Named[list[dict[str, Any]]] = Column(sa.JSON)
    seen_at: Named[datetime] = Column(UtcDateTime)


schema = sa.Table("archive_schema", metadata, SchemaColumns)


class KeepColumns(TypedColumns):
    """How long an organisation's rows were to be kept when a plan was last carried out (G91)."""

    system: Named[str] = Column(sa.Text, primary_key=True)
    archive: Named[str] = Column(sa.Text, primary_key=True)
    organisation: Named[str] = Column(ExactText, primary_key=True)
    keep: Named[str] = Column(sa.Text)  # '365 d', 'forever'
    seen_at: Named[datetime] = Column(UtcDateTime)


keep = sa.Table("archive_keep", metadata, KeepColumns)


class KeyColumns(TypedColumns):
    """The key of one organisation, wrapped by the deployment's; destroyed, nothing of its files can be read again."""

    id: Named[str] = Column(sa.Text, primary_key=True)
    system: Named[str] = Column(sa.Text)
    archive: Named[str] = Column(sa.Text)
    organisation: Named[str] = Column(ExactText)
    wrapped: Named[str | None] = Column(sa.Text)  # null: destroyed
    created_at: Named[datetime] = Column(UtcDateTime)
    destroyed_at: Named[datetime | None] = Column(UtcDateTime)
    destroyed_by: Named[str | None] = Column(sa.Text)
    reason: Named[str | None] = Column(sa.Text)


key = sa.Table("archive_key", metadata, KeyColumns, sa.Index("archive_key_owner", "system", "archive", "organisation"))


class ValueColumns(TypedColumns):
    """One value of an archived column: where it is, and how far it came. See values.STATES."""

    system: Named[str] = Column(sa.Text, primary_key=True)
    archive: Named[str] = Column(sa.Text, primary_key=True)
    row_id: Named[str] = Column(ExactText, primary_key=True)
    source: Named[str] = Column(sa.Text)
    organisation: Named[str | None] = Column(ExactText)
    store: Named[str] = Column(sa.Text)
    key: Named[str] = Column(ExactText)
    sha256: Named[str] = Column(sa.String(64))  # of the value's text
    slim_sha256: Named[str | None] = Column(sa.String(64))  # of the text of what stays in the row
    size_bytes: Named[int] = Column(sa.BigInteger)  # of the object
    value_bytes: Named[int] = Column(sa.BigInteger)
    dated_at: Named[datetime | None] = Column(UtcDateTime)
    state: Named[str] = Column(sa.Text)
    archived_at: Named[datetime] = Column(UtcDateTime)
    changed_at: Named[datetime] = Column(UtcDateTime)


value = sa.Table("archive_value", metadata, ValueColumns, sa.Index("archive_value_state", "system", "archive", "state"))
