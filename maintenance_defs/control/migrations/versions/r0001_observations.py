"""Artefacts, findings, pair fingerprints and requests."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Instant = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "artefact",
        sa.Column("number", Number, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("as_of", Instant, nullable=False),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("ended_at", Instant, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("uri", sa.Text),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("config_digest", sa.Text, nullable=False),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("recorded_at", Instant, nullable=False),
    )
    op.create_index("artefact_newest", "artefact", ["system", "kind", "name", "number"])
    op.create_table(
        "finding",
        sa.Column("system", sa.Text, primary_key=True),
        sa.Column("key_hash", sa.String(32), primary_key=True),
        sa.Column("store", sa.Text, primary_key=True),
        sa.Column("aspect", sa.Text, primary_key=True),
        sa.Column("row_hash", sa.String(32), primary_key=True),
        sa.Column("item", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("source", sa.Text),
        sa.Column("row_id", sa.Text),
        sa.Column("first_seen_at", Instant, nullable=False),
        sa.Column("last_seen_at", Instant, nullable=False),
        sa.Column("resolved_at", Instant),
        sa.Column("first_recorded_at", Instant, nullable=False),
        sa.Column("last_recorded_at", Instant, nullable=False),
        sa.Column("observations", sa.Integer, nullable=False),
        sa.Column("artefact_id", sa.Text, nullable=False),
    )
    op.create_table(
        "pair_fingerprint",
        sa.Column("system", sa.Text, primary_key=True),
        sa.Column("store", sa.Text, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("actor", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("recorded_at", Instant, nullable=False),
    )
    op.create_table(
        "request",
        sa.Column("id", Number, sa.Identity(), primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("requested_at", Instant, nullable=False),
        sa.Column("started_at", Instant),
        sa.Column("finished_at", Instant),
        sa.Column("run_id", sa.Text),
        sa.Column("verdict", sa.Text),
        sa.Column("artefact_id", sa.Text),
        sa.UniqueConstraint("system", "key", name="request_once"),
    )
    op.create_index(
        "request_open",
        "request",
        ["system"],
        unique=True,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
