"""Checks that stop every policy of a system while too many rows fail them (S3-51)."""

from __future__ import annotations

from datetime import datetime

from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.core.parameters import named_parameters
from maintenance_defs.reconcile.reading.rows import from_table
from maintenance_defs.retention.evidence import Evidence


def refuse_if_blocked(evidence: Evidence, as_of: datetime) -> None:
    """Raises Refused with both numbers; SourceUnavailable where a check cannot be asked."""
    snapshot = evidence.snapshot
    for name, check in evidence.system.checks.items():
        if check.blocks is None:
            continue
        table = snapshot.table(check.table)
        if table is None and check.optional:
            continue
        if table is None:
            raise SourceUnavailable(
                f"There is no table {check.table}, so nobody knows how many of its rows fail the check {name}, which "
                f"retention waits for. Nothing was changed. Bring it back, or mend the check: optional: true says that "
                f"the table may be absent."
            )
        among = check.blocks.among or "1 = 1"
        sql = (
            f"SELECT count(*) AS whole, coalesce(sum(CASE WHEN (\n{check.where}\n) THEN 1 ELSE 0 END), 0) AS failing "
            f"FROM {from_table(snapshot, table)} WHERE (\n{among}\n)"
        )
        found = snapshot.rows(sql, named_parameters(sql, as_of, {}))[0]
        whole, failing = int(found["whole"]), int(found["failing"])
        percent = 100 * failing / whole if whole else 0.0
        if whole >= check.blocks.small_population and percent > check.blocks.above_percent:
            raise Refused(
                name,
                f"{failing:,} of {whole:,} rows of {check.table} fail the check {name} ({percent:.1f} %; retention "
                f"waits above {check.blocks.above_percent:g} %): {check.describe} Nothing was changed. Repair them "
                f"first.",
            )
