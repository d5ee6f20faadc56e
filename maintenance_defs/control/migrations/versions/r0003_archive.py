"""Archive units, files, whose rows they hold, where values are, keys and periods."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Instant = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "archive_unit",
        sa.Column("number", Number, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("archive", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("table", sa.Text, nullable=False),
        sa.Column("relation", sa.Text, nullable=False),
        sa.Column("relation_oid", sa.BigInteger, nullable=False),
        sa.Column("lower", Instant, nullable=False),
        sa.Column("upper", Instant, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("schema_version", sa.Integer),
        sa.Column("rows", sa.BigInteger),
        sa.Column("heap_bytes", sa.BigInteger),
        sa.Column("fingerprint", sa.Text),
        sa.Column("groups", sa.JSON),
        sa.Column("row_ids", sa.Text),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_until", Instant),
        sa.Column("planned_at", Instant, nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.Column("left_at", Instant),
        sa.Column("removed_at", Instant),
        sa.Column("message", sa.Text),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.UniqueConstraint("system", "archive", "source", "lower", "upper", "part", name="archive_unit_once"),
    )
    op.create_index("archive_unit_state", "archive_unit", ["system", "archive", "state"])
    op.create_table(
        "archive_file",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("unit_id", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("archive", sa.Text, nullable=False),
        sa.Column("store", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("key_hash", sa.String(32), nullable=False),
        sa.Column("version_id", sa.Text),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("footer_sha256", sa.String(64)),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("first_at", Instant),
        sa.Column("last_at", Instant),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("row_groups", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text),
        sa.Column("wrapped_key", sa.Text),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("ended_at", Instant),
        sa.Column("ended_why", sa.Text),
        sa.Column("object_gone_at", Instant),
        sa.UniqueConstraint("system", "store", "key_hash", name="archive_file_key"),
    )
    op.create_index("archive_file_state", "archive_file", ["system", "archive", "state"])
    op.create_index("archive_file_unit", "archive_file", ["unit_id"])
    op.create_table(
        "archive_group",
        sa.Column("file_id", sa.Text, primary_key=True),
        sa.Column("organisation", sa.Text, primary_key=True),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("high", sa.Text, nullable=False),
        sa.Column("low", sa.Text, nullable=False),
        sa.Column("first_at", Instant),
        sa.Column("last_at", Instant),
    )
    op.create_table(
        "archive_index",
        sa.Column("file_id", sa.Text, primary_key=True),
        sa.Column("value_hash", sa.String(32), primary_key=True),
        sa.Column("organisation", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("first_group", sa.Integer, nullable=False),
        sa.Column("last_group", sa.Integer, nullable=False),
        sa.Column("first_at", Instant),
        sa.Column("last_at", Instant),
    )
    op.create_index("archive_index_value", "archive_index", ["value_hash"])
    op.create_table(
        "archive_schema",
        sa.Column("system", sa.Text, primary_key=True),
        sa.Column("archive", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("columns", sa.JSON, nullable=False),
        sa.Column("seen_at", Instant, nullable=False),
    )
    op.create_table(
        "archive_keep",
        sa.Column("system", sa.Text, primary_key=True),
        sa.Column("archive", sa.Text, primary_key=True),
        sa.Column("organisation", sa.Text, primary_key=True),
        sa.Column("keep", sa.Text, nullable=False),
        sa.Column("seen_at", Instant, nullable=False),
    )
    op.create_table(
        "archive_key",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("archive", sa.Text, nullable=False),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("wrapped", sa.Text),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("destroyed_at", Instant),
        sa.Column("destroyed_by", sa.Text),
        sa.Column("reason", sa.Text),
    )
    op.create_index("archive_key_owner", "archive_key", ["system", "archive", "organisation"])
    op.create_table(
        "archive_value",
        sa.Column("system", sa.Text, primary_key=True),
        sa.Column("archive", sa.Text, primary_key=True),
        sa.Column("row_id", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("organisation", sa.Text),
        sa.Column("store", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("slim_sha256", sa.String(64)),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("value_bytes", sa.BigInteger, nullable=False),
        sa.Column("dated_at", Instant),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("archived_at", Instant, nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
    )
    op.create_index("archive_value_state", "archive_value", ["system", "archive", "state"])
