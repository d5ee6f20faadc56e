"""Plans, consent, holds, pauses, the ledger and the quarantine registry."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Instant = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "plan",
        sa.Column("number", Number, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("system", "policy", "artefact_id", "digest")),
        sa.Column("config_digest", sa.Text, nullable=False),
        *(sa.Column(name, Instant, nullable=False) for name in ("as_of", "created_at", "expires_at")),
        sa.Column("state", sa.Text, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("units", "objects", "rows", "size_bytes")),
        sa.Column("totals", sa.JSON, nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("lease_owner", sa.Text),
        *(sa.Column(name, Instant) for name in ("lease_until", "claimed_at", "finished_at")),
        sa.Column("message", sa.Text),
    )
    op.create_index("plan_newest", "plan", ["system", "policy", "number"])
    _partial("plan_executing", "plan", ["system"], "state = 'executing'", unique=True)
    op.create_table(
        "approval",
        sa.Column("id", Number, sa.Identity(), primary_key=True),
        sa.Column("plan_id", sa.Text, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("unit_count", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("approved_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("units", sa.JSON),
        sa.Column("accept_limits", sa.Boolean, nullable=False),
        sa.Column("standing_id", sa.BigInteger),
        sa.UniqueConstraint("plan_id", "place", name="approval_once"),
    )
    op.create_table(
        "standing_approval",
        sa.Column("id", Number, sa.Identity(), primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("system", "policy", "config_digest")),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("approved_at", Instant, nullable=False),
        sa.Column("revoked_at", Instant),
        sa.Column("revoked_by", sa.Text),
        sa.Column("revoke_reason", sa.Text),
    )
    _partial(
        "standing_approval_open",
        "standing_approval",
        ["system", "policy", "config_digest"],
        "revoked_at IS NULL",
        unique=True,
    )
    op.create_table(
        "hold",
        sa.Column("id", Number, sa.Identity(), primary_key=True),
        sa.Column("system", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("store", "key", "prefix", "table", "row_id", "policy")),
        sa.Column("until", Instant),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("placed_at", Instant, nullable=False),
        sa.Column("released_at", Instant),
        sa.Column("released_by", sa.Text),
        sa.Column("release_reason", sa.Text),
    )
    op.create_index("hold_system", "hold", ["system", "released_at"])
    op.create_table(
        "pause",
        sa.Column("id", Number, sa.Identity(), primary_key=True),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("policy", sa.Text),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("paused_at", Instant, nullable=False),
        sa.Column("resumed_at", Instant),
        sa.Column("resumed_by", sa.Text),
        sa.Column("resume_reason", sa.Text),
    )
    op.create_index("pause_system", "pause", ["system", "resumed_at"])
    _ledger()


def _ledger() -> None:
    op.create_table(
        "chain",
        sa.Column("system", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_table(
        "act",
        sa.Column("system", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("plan_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("phase", sa.String(7), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("unit", sa.BigInteger),
        sa.Column("step", sa.Integer),
        *(sa.Column(name, sa.Text) for name in ("act", "kind", "store", "key")),
        sa.Column("key_hash", sa.String(32)),
        *(sa.Column(name, sa.Text) for name in ("table", "row_id")),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("tenant", sa.Text),
        sa.Column("purge_at", Instant),
        sa.Column("of_plan", sa.Text),
        sa.Column("of_seq", sa.BigInteger),
        *(sa.Column(name, sa.Text) for name in ("outcome", "detail", "evidence", "undo")),
        sa.Column("prev_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.UniqueConstraint("plan_id", "seq", "phase", name="act_once"),
    )
    _partial("act_unit", "act", ["plan_id", "unit"], "unit IS NOT NULL")
    _partial("act_window", "act", ["system", "at"], "unit IS NOT NULL")
    _partial("act_of", "act", ["of_plan", "of_seq"], "of_plan IS NOT NULL")
    op.create_table(
        "quarantine",
        sa.Column("plan_id", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("unit", sa.BigInteger, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("store", "key")),
        sa.Column("key_hash", sa.String(32)),
        *(sa.Column(name, sa.Text) for name in ("table", "row_id")),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("removed_at", Instant, nullable=False),
        sa.Column("purge_at", Instant),
        sa.Column("taken_by", sa.Text),
        sa.Column("taken_seq", sa.BigInteger),
        sa.Column("taken_until", Instant),
        sa.Column("ended_at", Instant),
        sa.Column("ended_number", sa.BigInteger),
    )
    op.create_index("quarantine_key", "quarantine", ["system", "key_hash"])
    op.create_index("quarantine_due", "quarantine", ["system", "state", "purge_at"])


def _partial(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
