"""What the verbs do for a policy and for an archive alike; the name or the plan says which of the two it is."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maintenance_defs.control.home import Home
    from maintenance_defs.control.retention import PlanRow
    from maintenance_defs.core.declaration import System
    from maintenance_defs.declarations import LoadedSystem
    from maintenance_defs.reconcile.run import Step
    from maintenance_defs.retention.review import Opened

Facts = dict[str, Any]


def check_name(system: System, name: str) -> None:
    """Raises Refused unless a policy or an archive of the system has that name."""
    from maintenance_defs.core.errors import Refused
    from maintenance_defs.core.problems import did_you_mean

    known = [*system.retention, *system.archives, *system.archived_columns]
    if name not in known:
        raise Refused(
            "unknown_policy",
            f"{system.name} has no policy or archive {name!r}.{did_you_mean(name, known)} Known: "
            f"{', '.join(known) or 'none'}.",
        )


def enabled_names(system: System, home: Home) -> list[str]:
    """Policies, then archives, that are enabled here. Raises Refused for a variable that cannot be understood."""
    from maintenance_defs.core.errors import Refused
    from maintenance_defs.core.retention_rules import enabled_by

    said = [(name, policy.enabled, policy.enabled_env) for name, policy in system.retention.items()]
    archives = system.archives | system.archived_columns
    said += [(name, archive.enabled, archive.enabled_env) for name, archive in archives.items()]
    try:
        return [name for name, enabled, variable in said if enabled_by(enabled, variable, home.environment)]
    except ValueError as error:
        raise Refused("configuration", f"{error}. Nothing was planned.") from None


def take_plan(
    system: System, name: str, home: Home, as_of: datetime | None, step: Step, groups: Sequence[str] = ()
) -> PlanRow:
    """Plan a policy, whole or some of its groups, or an archive."""
    run_id = uuid.uuid4().hex
    if name in system.archives:
        from maintenance_defs.archive.plans.planning import take_plan as take_archive_plan

        step(name, 0)
        return take_archive_plan(system, name, home, run_id=run_id, as_of=as_of)
    if name in system.archived_columns:
        from maintenance_defs.archive.values import take_values_plan

        step(name, 0)
        return take_values_plan(system, name, home, run_id=run_id, as_of=as_of)
    from maintenance_defs.retention.planning import take_plan as take_policy_plan

    return take_policy_plan(
        system, name, home, run_id=run_id, as_of=as_of, groups=groups, progress=lambda rows: step(name, rows)
    )


def plan_facts(home: Home, plan: PlanRow, loaded: LoadedSystem | None, *, items: bool = True) -> Facts:
    """Everything a person decides by; loaded: the system as it is declared now, None where it is no more."""
    from maintenance_defs.reporting import archive_facts, retention_facts

    if archive_facts.is_archive(plan):
        archives = loaded.system.archives | loaded.system.archived_columns if loaded else {}
        archive = archives.get(plan.policy)
        return archive_facts.plan_facts(home, plan, archive, items=items)
    policy = loaded.system.retention.get(plan.policy) if loaded else None
    return retention_facts.plan_facts(home, plan, policy, **({} if items else {"items": 0}))


def plan_lines(facts: Mapping[str, Any], *, next_step: bool = True) -> Iterator[str]:
    from maintenance_defs.reporting import archive_text, retention_text

    if facts["kind"] == "archive":
        return archive_text.plan_lines(facts, next_step=next_step)
    return retention_text.plan_lines(facts, next_step=next_step)


def opened(plan: PlanRow, system: System) -> Opened:
    """How the plan's list is read for a review. Raises Refused for an archive that is not declared any more."""
    from maintenance_defs.archive.declared import find_any
    from maintenance_defs.reporting import archive_facts
    from maintenance_defs.retention.review import plan_files

    if archive_facts.is_archive(plan):
        return partial(archive_facts.plan_files, archive=find_any(system, plan.policy))
    return plan_files


def may_act(system: System, plan: PlanRow, home: Home) -> None:
    """Raises what would be refused anyway, before somebody consents to it."""
    from maintenance_defs.archive import gate as archive_gate
    from maintenance_defs.archive.declared import find_any
    from maintenance_defs.core.errors import Paused
    from maintenance_defs.reporting.archive_facts import is_archive
    from maintenance_defs.retention import gate
    from maintenance_defs.retention.planning import find_policy, timings_here

    if paused := home.control.retention.paused(plan.system, plan.policy):
        raise Paused(f"{paused.words()}. Nothing was done. {paused.then()}")
    if is_archive(plan):
        archive_gate.may_act(system, find_any(system, plan.policy), plan, home)
        return
    policy = find_policy(system, plan.policy)
    now = datetime.now(UTC)
    gate.may_act(system, policy, plan, home, timings_here(system, policy, home, now), now)


def execute(
    system: System, plan: PlanRow, home: Home, *, progress: Callable[[int], None], log: Callable[[str], None]
) -> Facts:
    """Do what the plan says; what it came to."""
    from maintenance_defs.archive import gate as archive_gate
    from maintenance_defs.reporting import archive_facts, retention_facts
    from maintenance_defs.retention import gate

    run_id = uuid.uuid4().hex
    if archive_facts.is_archive(plan):
        left = archive_gate.execute(system, plan.id, home, run_id=run_id, progress=progress, log=log)
        return archive_facts.execution_facts(left, home)
    done = gate.execute(system, plan.id, home, run_id=run_id, progress=progress, log=log)
    return retention_facts.execution_facts(done)


def execution_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    from maintenance_defs.reporting import archive_text, retention_text

    if facts["kind"] == "archive":
        return archive_text.execution_lines(facts)
    return retention_text.execution_lines(facts)


def standing(system: System, name: str, home: Home) -> tuple[str, str]:
    """mode, and the digest that a standing approval is of."""
    from maintenance_defs.archive.declared import find_any
    from maintenance_defs.core.declaration import policy_digest
    from maintenance_defs.retention.planning import find_policy, timings_here

    if name not in system.retention:
        return find_any(system, name).mode, policy_digest(system, name, {})
    policy = find_policy(system, name)
    return policy.mode, policy_digest(system, name, timings_here(system, policy, home, datetime.now(UTC)))
