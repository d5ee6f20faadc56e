"""The plan: everything a policy would do now, with reasons, totals and guards. It changes nothing (H01).

A plan is an artefact (steps.parquet, kept.parquet) and a row of the control database. It is bound to its
digest and expires; what it rests on must be newer than the system's `max_input_age`.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.core.cutoff import utc_now
from maintenance_defs.core.declaration import System, config_digest, policy_digest
from maintenance_defs.core.errors import AsOfInTheFuture, MaintenanceError, Refused
from maintenance_defs.core.limits import Amount, usual_amount
from maintenance_defs.core.policy import Policy
from maintenance_defs.core.presets import preset_at
from maintenance_defs.core.problems import did_you_mean
from maintenance_defs.core.quantities import format_instant, parse_instant
from maintenance_defs.core.retention_rules import resolved_timings
from maintenance_defs.reconcile.calculator import literal
from maintenance_defs.reconcile.comparing.inputs import Inputs, open_findings
from maintenance_defs.reconcile.inventory import FILE
from maintenance_defs.reconcile.reading.rows import Progress
from maintenance_defs.retention.blocking import refuse_if_blocked
from maintenance_defs.retention.cascading import planned_cascades
from maintenance_defs.retention.choosing import STEPS_FILE, Choice, choice_of, count_kept, totals
from maintenance_defs.retention.choosing.judging import Listing
from maintenance_defs.retention.choosing.selected import count_rows, of_groups
from maintenance_defs.retention.costing import costs
from maintenance_defs.retention.evidence import Evidence, take_evidence
from maintenance_defs.retention.limiting import limit_guards, units_of_tenants

KIND = "plan"
KEPT_FILE = "kept.parquet"
SAMPLE = 10


def find_policy(system: System, name: str) -> Policy:
    """Raises Refused that names the known ones."""
    if name not in system.retention:
        known = ", ".join(system.retention) or "none"
        raise Refused(
            "unknown_policy",
            f"{system.name} has no policy {name!r}.{did_you_mean(name, system.retention)} Known: {known}.",
        )
    return system.retention[name]


def timings_here(system: System, policy: Policy, home: Home, at: datetime) -> dict[str, str]:
    """What presets and variables say in this deployment at an instant. Raises Refused that names the variable."""
    try:
        return resolved_timings(system, policy, home.environment, at)
    except ValueError as error:
        raise Refused("configuration", f"{error}. Nothing was changed.") from None


def take_plan(
    system: System,
    name: str,
    home: Home,
    *,
    run_id: str,
    as_of: datetime | None = None,
    groups: Sequence[str] = (),
    progress: Progress | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> PlanRow:
    """Plan one policy on the newest reconciliation and a fresh snapshot; record the plan.

    as_of: not later than that of the inventories, which is used where none is given.
    groups: only rows of these, values of the policy's `group_column`; each is judged whole, and nothing goes that
        a plan of everything would keep. None: everything.
    Returns the plan's row: state 'planned', or 'done' where there is nothing to do.
    Raises Refused (also recorded, as an artefact without files) and whatever reading raises; then there is no plan.
    Source: C-2, S0-30, S2-22, S2-28; hazards A16, B, G, H01, J06, M02; I1, I5, I9, I10, I14.
    """
    started_at = clock()
    policy = find_policy(system, name)
    groups = sorted(set(groups))
    if groups and policy.group_column is None:
        raise Refused("no_groups", f"{name} of {system.name} has no groups. Nothing was planned: plan it whole.")
    plan_id = uuid.uuid4().hex
    inputs = Inputs.newest(system, home)
    at = inputs.as_of(as_of, started_at)
    timings = timings_here(system, policy, home, at)
    artefact = Artefact(
        id=plan_id, system=system.name, kind=KIND, name=name, run_id=run_id, as_of=at, started_at=started_at,
        ended_at=started_at, verdict="complete", reason=None, uri=None, row_count=0, size_bytes=0, digest=None,
        evidence={}, config_digest=config_digest(system), inputs=inputs.ids,
    )  # fmt: skip
    try:
        listings = usable_listings(system, policy, home, inputs, started_at)
        if as_of is not None and listings and as_of > at:
            raise AsOfInTheFuture(f"as-of {format_instant(as_of)} lies after the inventories'. Nothing was planned.")
        with home.artefacts.stage(system.name, KIND, name, plan_id, as_of=at) as staged:
            with TemporaryDirectory(dir=staged.path) as work:
                files = {store: listing.inventory for store, listing in listings.items()}
                with take_evidence(system, home, files, Path(work), progress=progress) as evidence:
                    choice = choice_of(policy)(
                        evidence, policy, name, at, timings, listings,
                        holds=home.control.retention.holds_on(system.name, name),
                        observed=_observations(system, policy, home),
                    )  # fmt: skip
                    if groups:
                        choice.only = of_groups(evidence.snapshot, policy, groups)
                    refuse_if_blocked(evidence, at)
                    choice.run()
                    facts = _facts(system, policy, name, home, choice, started_at)
                    if groups:
                        facts |= {"groups": groups, "group_column": policy.group_column}
                    _write(evidence, staged.path)
            uri, manifest, size_bytes = staged.commit()
    except MaintenanceError as error:
        reason = getattr(error, "reason", type(error).__name__)
        home.control.record(
            replace(artefact, verdict="refused", reason=reason, evidence={"message": str(error)}, ended_at=clock())
        )
        raise
    full = policy_digest(system, name, timings)
    said = "\0".join([manifest, full, format_instant(at), *inputs.ids])
    digest = hashlib.sha256(said.encode()).hexdigest()
    steps = facts["totals"]["objects"] + facts["totals"]["rows"]
    home.control.record(
        replace(
            artefact, uri=uri, digest=manifest, size_bytes=size_bytes, row_count=steps, evidence=facts, ended_at=clock()
        )
    )
    now = clock()
    row = PlanRow(
        id=plan_id, system=system.name, policy=name, artefact_id=plan_id, digest=digest, config_digest=full, as_of=at,
        created_at=now, expires_at=now + policy.approval_lasts,
        state="planned" if facts["totals"]["units"] else "done",
        units=facts["totals"]["units"], objects=facts["totals"]["objects"], rows=facts["totals"]["rows"],
        size_bytes=facts["totals"]["size_bytes"],
        totals=facts | {"second_person": policy.second_person}, run_id=run_id,
        message=None if facts["totals"]["units"] else "nothing to do",
    )  # fmt: skip
    home.control.retention.record_plan(row)
    return row


def usable_listings(system: System, policy: Policy, home: Home, inputs: Inputs, now: datetime) -> dict[str, Listing]:
    """The inventories a policy may rest on: complete, compared and found plausible. Raises Refused with the reason.

    A store that references name must have a diff that no guard refused; others need a complete inventory only.
    """
    wanted = stores_of(system, policy)
    listings: dict[str, Listing] = {}
    diff = home.control.latest(system.name, "orphan_diff")
    for store in wanted:
        inventory = inputs.inventories.get(store)
        if inventory is None or inventory.verdict != "complete":
            why, then = "has not been listed yet", f"reconcile {system.name} first"
            if inventory is not None:
                why = f"could not be listed whole ({inventory.verdict})"
                then = f"maintain report {system.name} --last says why; reconcile {system.name} again then"
            raise Refused("not_listed", f"store '{store}' {why}. Nothing was planned: {then}.")
        if inventory.config_digest != config_digest(system):
            raise Refused(
                "stale_inputs",
                f"the declaration of {system.name} has changed since store '{store}' was listed. Nothing was planned: "
                f"reconcile first.",
            )
        age = now - inventory.started_at
        if age > system.guards.max_input_age:
            raise Refused(
                "stale_inputs",
                f"store '{store}' was listed at {format_instant(inventory.started_at)}, too long ago. Nothing was "
                f"planned: reconcile {system.name} first.",
            )
        if store in system.referenced_stores:
            _plausible(system, policy, store, diff, inventory)
        first_seen = None
        if system.stores[store].age_by == "first_seen":
            first_seen = open_findings(home, system, store, ("young", "orphan_candidate"))
        uploads = tuple(
            (upload["key"], upload["started_at"] and parse_instant(upload["started_at"]))
            for upload in inventory.evidence.get("incomplete_uploads", ())
        )
        path = home.artefacts.local(inventory.uri or "", inventory.digest) / FILE
        listings[store] = Listing(path, inventory.started_at, first_seen, uploads)
    return listings


def stores_of(system: System, policy: Policy) -> tuple[str, ...]:
    """The stores whose objects matter to a policy."""
    select = policy.select
    if select.rows is None:
        return (select.store or "",)
    tables = {select.rows} | ({select.owns.table} if select.owns else set())
    needed = {rule.store for rule in policy.keep if rule.store}
    if select.within is not None:
        needed.add(select.within.store)
    stored = select.generations is not None and select.generations.stored
    if policy.act.objects is not None or policy.act.repoint or stored:
        needed |= {s for r in system.references if r.table in tables and not r.protects_only for s in r.store}
    return tuple(store for store in system.stores if store in needed)


def _plausible(system: System, policy: Policy, store: str, diff: Artefact | None, inventory: Artefact) -> None:
    """Raises Refused unless the newest diff compared this very inventory and no guard refused it (M01)."""
    if diff is None or inventory.id not in diff.inputs:
        raise Refused(
            "stale_inputs",
            f"the newest inventory of store '{store}' has not been compared with the database. Nothing was planned: "
            f"reconcile {system.name} first.",
        )
    guards = [g for g in diff.evidence.get("guards", ()) if g["store"] in (None, store)]
    against = [g for g in guards if g["status"] == "refuse" and g["concerns"] == "all"]
    verdict = diff.evidence.get("stores", {}).get(store, {}).get("verdict", diff.verdict)
    if against or verdict != "complete":
        message = against[0]["message"] if against else diff.evidence.get("message") or f"its verdict is {verdict}."
        reason = against[0]["name"] if against else diff.reason or verdict
        raise Refused(reason, f"the last reconciliation of store '{store}' allows no plan: {message}")
    warned = [g for g in guards if g["status"] == "warn"]
    if policy.mode == "automatic" and policy.select.rows is None and warned:
        raise Refused(
            warned[0]["name"],
            f"nothing acts by itself on store '{store}' while this is so: {warned[0]['message']}",
        )


def _observations(system: System, policy: Policy, home: Home) -> pa.Table | None:
    """key, observations of the open findings, for automatic acts on orphans."""
    if policy.mode != "automatic" or policy.select.orphans is None:
        return None
    store = policy.select.orphans
    wanted = pa.array(["orphan_candidate", "young"])
    batches = [
        batch.filter(pc.is_in(batch["item"], wanted)).select(["key", "observations"])
        for batch in home.control.findings(system.name, store)
    ]
    schema = pa.schema([pa.field("key", pa.string()), pa.field("observations", pa.int64())])
    return pa.Table.from_batches([b.cast(schema) for b in batches], schema)


def _facts(system: System, policy: Policy, name: str, home: Home, choice: Choice, now: datetime) -> dict[str, Any]:
    """Totals, kept counts, cascades and guards: what a person reads first."""
    evidence = choice.evidence
    preset = preset_at(system, home.environment, choice.as_of)
    amounts = totals(evidence.con, "steps")
    cascades = planned_cascades(system, policy, home, evidence)
    tenants = units_of_tenants(evidence.con, "SELECT * FROM steps")
    whole = population(policy, choice)
    guards = limit_guards(
        system, policy, name, home,
        Amount(amounts["objects"], amounts["rows"], amounts["size_bytes"]), whole, sum(cascades.values()), tenants, now,
    )  # fmt: skip
    history = [p.units for p in home.control.retention.plans(system.name, name, limit=10, whole=True) if p.units]
    guards.append(usual_amount(policy.limits, amounts["units"], history))
    exceeded = [g.message for g in guards if g.status == "refuse"]
    return {
        "as_of": format_instant(choice.as_of),
        "describe": policy.describe,
        "mode": policy.mode,
        "timings": dict(choice.timings),
        "preset": preset.facts() if preset is not None else None,
        "totals": amounts,
        "population": {"objects": whole.objects, "rows": whole.rows},
        "kept": count_kept(evidence),
        "cascades": cascades,
        "guards": [asdict(guard) for guard in guards],
        "limits_exceeded": exceeded,
        "cutoffs": choice.cutoffs,
        "costs": costs(system, policy, evidence),
        "flags": [*choice.flags, *([preset.message] if preset is not None and preset.message else [])],
        "lacking": choice.lacking,
    }


def population(policy: Policy, choice: Choice) -> Amount:
    """The objects in scope and the rows of the table that a percentage is of."""
    con = choice.evidence.con
    objects = 0
    for store, listing in choice.listings.items():
        within = policy.select.within
        prefix = policy.select.prefix if policy.select.rows is None else (within.prefix if within else "")
        if within is not None and store != within.store:
            continue
        query = (
            f"SELECT count(*) FROM read_parquet({literal(listing.inventory)}) WHERE starts_with(key, {literal(prefix)})"
        )
        objects += con.execute(query).fetchall()[0][0]
    rows = 0
    if policy.select.rows is not None:
        table = choice.evidence.snapshot.table(policy.select.rows)
        rows = count_rows(choice.evidence, table) if table is not None else 0
    return Amount(objects, rows, 0)


def _write(evidence: Evidence, folder: Path) -> None:
    options = "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 131072)"
    evidence.con.execute(
        f"COPY (SELECT * FROM steps ORDER BY unit, position, act, store, key, row_id) "
        f"TO {literal(folder / STEPS_FILE)} {options}"
    )
    evidence.con.execute(
        f"COPY (SELECT item, rule, reason FROM kept ORDER BY rule, item, reason) "
        f"TO {literal(folder / KEPT_FILE)} {options}"
    )
