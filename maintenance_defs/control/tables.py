"""The tables of the control database; `migrations/` creates them, a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Named, TypedColumns
from sqlalchemy.engine import Dialect

metadata = sa.MetaData()


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware instant, UTC on reading on every dialect. SQLite keeps it as text without a zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone; every time of ours is aware")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# A number that only grows: what "newest" means here, so that no clock decides it. (SQLite counts rows
# only in a column that is spelled INTEGER.)
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class ArtefactColumns(TypedColumns):
    number: Named[int] = Column(Number, sa.Identity(), primary_key=True)
    id: Named[str] = Column(sa.Text, unique=True)
    system: Named[str] = Column(sa.Text)
    kind: Named[str] = Column(sa.Text)
    name: Named[str] = Column(sa.Text)
    run_id: Named[str] = Column(sa.Text)
    as_of: Named[datetime] = Column(UtcDateTime)
    started_at: Named[datetime] = Column(UtcDateTime)
    ended_at: Named[datetime] = Column(UtcDateTime)
    verdict: Named[str] = Column(sa.Text)
    reason: Named[str | None] = Column(sa.Text)
    uri: Named[str | None] = Column(sa.Text)
    row_count: Named[int] = Column(sa.BigInteger)
    size_bytes: Named[int] = Column(sa.BigInteger)
    digest: Named[str | None] = Column(sa.Text)
    evidence: Named[dict[str, Any]] = Column(sa.JSON)
    config_digest: Named[str] = Column(sa.Text)
    inputs: Named[list[str]] = Column(sa.JSON)
    recorded_at: Named[datetime] = Column(UtcDateTime)  # the real clock, whatever as_of says


artefact = sa.Table(
    "artefact", metadata, ArtefactColumns, sa.Index("artefact_newest", "system", "kind", "name", "number")
)


class FindingColumns(TypedColumns):
    """Identity: system, key, store, aspect and row. Hashes, because PostgreSQL indexes at most 2704 bytes."""

    system: Named[str] = Column(sa.Text, primary_key=True)
    key_hash: Named[str] = Column(sa.String(32), primary_key=True)
    store: Named[str] = Column(sa.Text, primary_key=True)  # "" for rows that name no store
    aspect: Named[str] = Column(sa.Text, primary_key=True)  # what is claimed, common to several items
    row_hash: Named[str] = Column(sa.String(32), primary_key=True)  # of source and row_id
    item: Named[str] = Column(sa.Text)  # the class it had when it was last seen
    key: Named[str | None] = Column(sa.Text)
    source: Named[str | None] = Column(sa.Text)
    row_id: Named[str | None] = Column(sa.Text)
    first_seen_at: Named[datetime] = Column(UtcDateTime)  # as_of of the first run that saw it
    last_seen_at: Named[datetime] = Column(UtcDateTime)
    resolved_at: Named[datetime | None] = Column(UtcDateTime)
    first_recorded_at: Named[datetime] = Column(UtcDateTime)  # the real clock
    last_recorded_at: Named[datetime] = Column(UtcDateTime)
    observations: Named[int] = Column(sa.Integer)  # complete runs that saw it without a break (B13)
    artefact_id: Named[str] = Column(sa.Text)  # the newest run that saw it


finding = sa.Table("finding", metadata, FindingColumns)


class PairFingerprintColumns(TypedColumns):
    """Which database belongs to which store; appended only, the highest revision counts."""

    system: Named[str] = Column(sa.Text, primary_key=True)
    store: Named[str] = Column(sa.Text, primary_key=True)
    revision: Named[int] = Column(sa.Integer, primary_key=True, autoincrement=False)
    fingerprint: Named[str] = Column(sa.Text)
    actor: Named[str | None] = Column(sa.Text)  # null: registered by the first run
    reason: Named[str | None] = Column(sa.Text)
    recorded_at: Named[datetime] = Column(UtcDateTime)


pair_fingerprint = sa.Table("pair_fingerprint", metadata, PairFingerprintColumns)


class RequestColumns(TypedColumns):
    """What the HTTP trigger was asked for."""

    id: Named[int] = Column(Number, sa.Identity(), primary_key=True)
    key: Named[str] = Column(sa.Text)  # Idempotency-Key
    system: Named[str] = Column(sa.Text)
    what: Named[str] = Column(sa.Text)
    requested_at: Named[datetime] = Column(UtcDateTime)
    started_at: Named[datetime | None] = Column(UtcDateTime)
    finished_at: Named[datetime | None] = Column(UtcDateTime)
    run_id: Named[str | None] = Column(sa.Text)
    verdict: Named[str | None] = Column(sa.Text)
    artefact_id: Named[str | None] = Column(sa.Text)


request = sa.Table(
    "request",
    metadata,
    RequestColumns,
    sa.UniqueConstraint("system", "key", name="request_once"),
    # At most one open request a system: what makes the second caller's 409 certain.
    sa.Index(
        "request_open",
        "system",
        unique=True,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    ),
)
