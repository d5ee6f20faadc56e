"""The one gate: every destructive path goes through `execute` (I12).

Claim, then batch by batch: lease, the policy asked again on a fresh snapshot, objects looked at again;
intents on record, acts, outcomes on record. Objects go before their rows; a row stays when its object
did not go, and an object comes back when its row turns out to be needed after all. There is no dry run in here.
"""

from __future__ import annotations

import gc
import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.control.retention.ledger import SUCCESS
from maintenance_defs.core.cutoff import utc_now
from maintenance_defs.core.declaration import System, policy_digest
from maintenance_defs.core.errors import MaintenanceError, Refused
from maintenance_defs.core.policy import Policy, parse_window
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.core.retention_rules import is_enabled
from maintenance_defs.reconcile.comparing.inputs import Inputs
from maintenance_defs.retention.acting import Actor
from maintenance_defs.retention.batches import Work, open_work
from maintenance_defs.retention.late import restore_late_references
from maintenance_defs.retention.limiting import refuse_above_limits
from maintenance_defs.retention.pausing import pause_on_damage
from maintenance_defs.retention.planning import find_policy, timings_here, usable_listings
from maintenance_defs.retention.settling import settle
from maintenance_defs.retention.verifying import verified

LEASE_SECONDS = 300.0  # longer than a batch takes; a killed run blocks its system for so long
FIRST_BATCH, MAX_BATCH = 1000, 30_000  # units; the larger, the more memory
ASKING_SHARE = 0.25  # of the time of a batch may go into asking again; batches grow until it does
BATCH_SECONDS = 60.0  # … but what was asked must not be older than this when it is used
MAX_GROWTH = 8.0  # from one batch to the next: small ones tell little about large ones
COLLECT_AFTER = 100_000  # objects, instead of 700; about 20 MB if all of them were circles
ERROR_BUDGET, ERROR_PERCENT = 20, 20.0  # so many failures, and so large a share, stop the run (H10)

Progress = Callable[[int], None]
Log = Callable[[str], None]


@dataclass
class Execution:
    """What a run did. state: done, partial, or nothing where the plan had been executed already."""

    plan: PlanRow
    state: str
    counts: dict[str, int] = field(default_factory=dict)
    by_kind: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)
    restored: int = 0
    message: str | None = None
    seconds: float = 0.0

    @property
    def succeeded(self) -> int:
        """Steps that did what was planned."""
        return sum(self.counts.get(outcome, 0) for outcome in SUCCESS)


def _silent(_: Any) -> None:
    return None


def execute(
    system: System,
    plan_id: str,
    home: Home,
    *,
    run_id: str,
    owner: str | None = None,
    progress: Progress = _silent,
    log: Log = _silent,
    clock: Callable[[], datetime] = utc_now,
    lease_seconds: float = LEASE_SECONDS,
    units_per_batch: int | None = None,
) -> Execution:
    """Do what an approved plan says, as far as it is still right.

    owner: of the lease, unique to this attempt.
    progress: called with the units of each batch done. log: the policy's own lines, and warnings.
    Returns the execution; it is `partial` when something failed or was not reached, and may be run again.
    Raises Refused (not approved, expired, changed, paused, outside its window, over its limits, busy)
    before anything was done; whatever stops it later leaves the plan `partial`.
    Source: C-3, C-6, C-7; hazards B02, B07, B09, B10, F08, F09, G01, G11, H01-H19, K11, M04; I6-I12.
    """
    began = time.monotonic()
    state = home.control.retention
    plan = state.plan(plan_id)
    if plan.system != system.name:
        raise Refused("wrong_system", f"plan {plan_id} is of {plan.system}, not of {system.name}. Nothing was done.")
    policy = find_policy(system, plan.policy)
    if plan.state == "done":
        return Execution(plan, "done", message="it was executed already; nothing was done")
    owner = owner or f"{run_id}-{uuid.uuid4().hex[:8]}"
    take_up = partial(take_up_lapsed, system, home, owner=owner, log=log, clock=clock, lease_seconds=lease_seconds)
    take_up(but=plan_id)
    try:
        timings = timings_here(system, policy, home, clock())
        approval = state.approval_of(plan_id)
        may_act(system, policy, plan, home, timings, clock())
        _untouched(plan, home.control.get(plan.artefact_id))
        listings = usable_listings(system, policy, home, Inputs.newest(system, home), clock())
        pause_on_damage(system, home)
        if approval is not None:
            refuse_above_limits(system, policy, plan, approval, home, clock())
    except MaintenanceError:
        take_up()  # it may not go on, so what a killed run of it had begun is settled without it
        raise
    if not state.claim(plan_id, owner, lease_seconds, run_id=run_id):
        return Execution(state.plan(plan_id), "done", message="it was executed already; nothing was done")
    approval = state.approval_of(plan_id)
    units = approval.units if approval is not None else ()
    actor = Actor(system, policy, plan, home, owner, approval, clock, lease_seconds)
    stopped: str | None = None
    restored = 0
    log(policy.log.get("begin", ""))
    with open_work(home, plan, units) as work:
        try:
            settle(actor, log)
            work.remember(state.acts(plan_id))
            with _fewer_collections():
                stopped = _run(actor, work, listings, timings, progress, log, clock, lease_seconds, units_per_batch)
            restored = restore_late_references(actor, work, listings, log)
        except BaseException as error:  # also a cancelled run: what was begun is settled before the plan is given back
            with suppress(MaintenanceError, sa.exc.SQLAlchemyError):
                settle(actor, log)
                work.remember(state.acts(plan_id))
                with suppress(MaintenanceError, sa.exc.SQLAlchemyError):  # the next attempt asks again
                    restore_late_references(actor, work, listings, log)
                _end(actor, work, "partial", str(error) or type(error).__name__)
            raise
        counts = work.counts()
        good = all(outcome in (*SUCCESS, "skipped_changed", "skipped_referenced", "skipped_held", "skipped_kept")
                   for outcome in counts)  # fmt: skip
        ended = "done" if good and stopped is None else "partial"
        _report(policy, work, log)
        problems = work.problems(20)
        by_kind = work.counts_by_kind()
        _end(actor, work, ended, stopped)
    return Execution(
        state.plan(plan_id), ended, counts, by_kind, problems, restored, stopped, round(time.monotonic() - began, 3)
    )


@contextmanager
def _fewer_collections() -> Iterator[None]:
    """A batch makes a million small objects and no circles: to look for some so often costs a sixth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def take_up_lapsed(
    system: System,
    home: Home,
    *,
    owner: str,
    but: str | None = None,
    log: Log = _silent,
    clock: Callable[[], datetime] = utc_now,
    lease_seconds: float = LEASE_SECONDS,
) -> int:
    """Settle what killed runs of this system had begun, give back what is needed, and free the system (H07).

    but: a plan that is about to go on. Nothing new is done: the others are `partial` afterwards, and what their rows
    still name is given back. Returns how many.
    """
    state = home.control.retention
    now = clock()
    lapsed = [
        plan
        for plan in state.plans(system.name, states=("executing",))
        if plan.lease_until and plan.lease_until <= now and plan.id != but
    ]
    for plan in lapsed:
        policy = find_policy(system, plan.policy)
        mine = f"{owner}-settling"
        state.claim(plan.id, mine, lease_seconds)
        actor = Actor(system, policy, plan, home, mine, state.approval_of(plan.id), clock, lease_seconds)
        with open_work(home, plan, actor.approval.units if actor.approval else ()) as work:
            settle(actor, log)
            work.remember(state.acts(plan.id))
            try:
                listings = usable_listings(system, policy, home, Inputs.newest(system, home), clock())
                restore_late_references(actor, work, listings, log)
            except MaintenanceError as error:  # nothing is lost by it: a purge asks again, and so does the plan
                log(f"What a killed run put away could not be asked for again: {error}")
            _end(actor, work, "partial", "its run was killed; what it had begun was settled")
    return len(lapsed)


def _run(
    actor: Actor,
    work: Work,
    listings: Any,
    timings: dict[str, str],
    progress: Progress,
    log: Log,
    clock: Callable[[], datetime],
    lease_seconds: float,
    units_per_batch: int | None,
) -> str | None:
    """All batches; why it stopped early, if it did."""
    size, after, failures, done = units_per_batch or FIRST_BATCH, -1, 0, 0
    state, plan = actor.home.control.retention, actor.plan
    while True:
        steps, known = work.todo(size, after)
        if not steps:
            return None
        after = steps[-1].unit
        state.renew(plan.id, actor.owner, lease_seconds)
        still_in_window(actor.policy, clock())
        _still_timed(actor, timings, clock())
        images = actor.take_images(steps)  # before the snapshot: what then differs has changed
        asked = time.monotonic()
        with verified(
            actor.system,
            actor.policy,
            plan.policy,
            actor.home,
            steps,
            known,
            listings,
            actor.stores,
            plan.as_of,
            timings,
        ) as (found, evidence):
            predicates = actor.predicates(evidence)
        answered = time.monotonic()
        work.note([(u, n, outcome, detail) for (u, n), (outcome, detail) in found.refused.items()])
        outcomes = actor.act(steps, found.going, known, images, predicates, log)
        work.note(outcomes)
        acted = time.monotonic()
        units = len({s.unit for s in steps})
        progress(units)
        done += units
        failures += sum(outcome in ("failed", "unknown") for _, _, outcome, _ in outcomes)
        if failures >= ERROR_BUDGET and 100 * failures / done > ERROR_PERCENT:
            return (
                f"{failures:,} of {done:,} units failed, so the run was stopped. What failed was left as it was; the "
                f"ledger says which. Look at the first of them, then apply the plan again."
            )
        if units_per_batch is None:
            size = _next_size(size, answered - asked, acted - answered)


def _next_size(size: int, asking: float, acting: float) -> int:
    """Larger batches while asking costs too much of the time, as long as its answer stays fresh."""
    if acting > BATCH_SECONDS:
        return max(size // 2, 100)
    wanted = asking * (1 - ASKING_SHARE) / ASKING_SHARE  # seconds of acting, as if asking cost the same for any batch
    growth = min(wanted, BATCH_SECONDS / 2) / max(acting, 0.001)
    return min(int(size * min(growth, MAX_GROWTH)), MAX_BATCH) if growth > 1 else size


def may_act(system: System, policy: Policy, plan: PlanRow, home: Home, timings: dict[str, str], now: datetime) -> None:
    """Raises Refused when the policy is off, paused, changed since the plan (H19), or outside its window."""
    if not is_enabled(policy, home.environment):
        how = f" or {policy.enabled_env}=true" if policy.enabled_env else ""
        raise Refused(
            "disabled",
            f"policy {plan.policy} of {system.name} is not enabled. Nothing was done: set enabled: true{how}.",
        )
    if lacking := plan.totals.get("lacking"):
        raise Refused(
            "migration_missing",
            f"{', '.join(lacking)} does not exist yet. Nothing was done: apply the migration that adds it "
            f"(maintain migrate {system.name}), then plan again.",
        )
    if plan.config_digest != policy_digest(system, plan.policy, timings):
        raise Refused(
            "declaration_changed",
            f"the declaration of {system.name} has changed since plan {plan.id[:8]} was made, or its preset expired. "
            f"Nothing was done: plan again.",
        )
    still_in_window(policy, now)


def _still_timed(actor: Actor, timings: dict[str, str], now: datetime) -> None:
    """A preset that expires while a plan is carried out decides nothing more."""
    if timings_here(actor.system, actor.policy, actor.home, now) != timings:
        raise Refused(
            "declaration_changed",
            f"the preset of {actor.system.name} expired. What was done stays done and on record, nothing more was "
            f"done: plan again.",
        )


def still_in_window(policy: Policy, now: datetime) -> None:
    if policy.window is None:
        return
    start, end, zone = parse_window(policy.window)
    local = now.astimezone(zone)
    minute = local.hour * 60 + local.minute
    inside = start <= minute < end if start < end else minute >= start or minute < end
    if not inside:
        raise Refused(
            "outside_window",
            f"it is {local:%H:%M} {zone.key}, outside the window {policy.window}. Nothing more was done: run it again "
            f"inside the window.",
        )


def _untouched(plan: PlanRow, artefact: Artefact) -> None:
    """The plan is the one that was approved: its digest is made from what is on record (I9)."""
    said = "\0".join([artefact.digest or "", plan.config_digest, format_instant(plan.as_of), *artefact.inputs])
    if hashlib.sha256(said.encode()).hexdigest() != plan.digest:
        raise Refused("digest", f"plan {plan.id} is not what its digest says. Nothing was done: plan again.")


def _report(policy: Policy, work: Work, log: Log) -> None:
    """The policy's own lines, with {n} as the number done."""
    kinds = work.counts_by_kind()
    objects = sum(n for outcome, n in kinds.get("object", {}).items() if outcome in SUCCESS)
    rows = sum(n for kind, found in kinds.items() if kind != "object" for o, n in found.items() if o in SUCCESS)
    for name, count in (("objects_done", objects), ("rows_done", rows), ("end", 0)):
        if name in policy.log:
            log(policy.log[name].replace("{n}", f"{count}"))


def _end(actor: Actor, work: Work, state: str, message: str | None) -> None:
    """Keep every step's outcome as an artefact and give the plan back; settled intents only."""
    plan, home = actor.plan, actor.home
    artefact_id = uuid.uuid4().hex
    with home.artefacts.stage(plan.system, "execution", plan.policy, artefact_id, as_of=plan.as_of) as staged:
        work.write(staged.path / "outcomes.parquet")
        uri, digest, size_bytes = staged.commit()
    counts = work.counts()
    now = utc_now()
    home.control.record(
        Artefact(
            artefact_id,
            plan.system,
            "execution",
            plan.policy,
            actor.owner,
            plan.as_of,
            now,
            now,
            "complete" if state == "done" else "incomplete",
            None if state == "done" else state,
            uri,
            sum(counts.values()),
            size_bytes,
            digest,
            {"counts": counts, "plan": plan.id, "message": message},
            actor.system_digest,
            (plan.artefact_id,),
        )
    )
    settle(actor, _silent)
    home.control.retention.release(plan.id, actor.owner, state, {"outcomes": counts}, message)
