"""The limits of a policy over what a plan would take and what went before it, asked when planning and at the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.consent import Approval
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused
from maintenance_defs.core.guards import Guard
from maintenance_defs.core.limits import Amount, per_tenant, within_limits
from maintenance_defs.core.policy import Policy
from maintenance_defs.reconcile.calculator import calculator, literal
from maintenance_defs.retention.choosing import STEPS_FILE, totals


def limit_guards(
    system: System,
    policy: Policy,
    name: str,
    home: Home,
    now: Amount,
    whole: Amount,
    cascading: int,
    tenants: Mapping[str, int],
    at: datetime,
    *,
    plan_id: str | None = None,
) -> list[Guard]:
    """The limits over this amount and what the rolling window took already (G01, G03, G11).

    tenants: units of each, as `units_of_tenants` counts them.
    plan_id: of the plan that the amount is of; what it did itself, before it was interrupted, is part of it.
    """
    state, since = home.control.retention, at - policy.limits.window
    before = state.window_totals(system.name, name, since, but=plan_id)
    taken = Amount(before.objects, before.rows, before.size_bytes)
    found = within_limits(policy.limits, now, taken, whole, cascading)
    if policy.limits.max_items_per_tenant is not None:
        gone = state.tenant_units(system.name, name, since, but=plan_id)
        tenants = {tenant: units + gone.get(tenant, 0) for tenant, units in tenants.items()}
    tenant = per_tenant(policy.limits, tenants)
    return [*found, tenant] if tenant else found


def units_of_tenants(con: duckdb.DuckDBPyConnection, steps: str) -> dict[str, int]:
    """How many units of `steps`, a query of that schema, each tenant has; those without one count nowhere."""
    query = f"SELECT tenant, count(DISTINCT unit) FROM ({steps}) WHERE tenant IS NOT NULL GROUP BY tenant"
    return dict(con.execute(query).fetchall())


def refuse_above_limits(
    system: System, policy: Policy, plan: PlanRow, approval: Approval, home: Home, now: datetime
) -> None:
    """The limits again, with what went since the plan was made (G11). Raises Refused with the numbers."""
    if approval.accept_limits:
        return
    amount, tenants = _approved(plan, approval.units, home)
    whole, along = Amount(**plan.totals["population"]), sum(plan.totals["cascades"].values())
    guards = limit_guards(system, policy, plan.policy, home, amount, whole, along, tenants, now, plan_id=plan.id)
    against = [g.message for g in guards if g.status == "refuse"]
    if against:
        raise Refused("limits", "the plan, with what was done before it, exceeds its limits: " + " ".join(against))


def _approved(plan: PlanRow, units: Sequence[int] | None, home: Home) -> tuple[Amount, dict[str, int]]:
    """What was approved: how much it is, and its units of each tenant. Few units may be most of the bytes."""
    artefact = home.control.get(plan.artefact_id)
    file = home.artefacts.local(artefact.uri or "", artefact.digest) / STEPS_FILE
    steps = f"SELECT * FROM read_parquet({literal(file)})"
    with TemporaryDirectory() as spool, calculator(Path(spool)) as con:
        if units is not None:
            con.register("given", pa.table({"unit": pa.array(units, pa.int64())}))
            steps += " WHERE unit IN (SELECT unit FROM given)"
        found = totals(con, f"({steps})")
        return Amount(found["objects"], found["rows"], found["size_bytes"]), units_of_tenants(con, steps)
