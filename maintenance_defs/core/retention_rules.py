"""What must hold between the policies of a system and the rest of its declaration (I13, I15, E04)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from itertools import combinations
from typing import TYPE_CHECKING

from maintenance_defs.core.parameters import named_timings
from maintenance_defs.core.policy import FLOOR, Move, Policy
from maintenance_defs.core.quantities import format_duration, parse_duration

if TYPE_CHECKING:
    from maintenance_defs.core.declaration import System

SELECTABLE = ("temporary", "cache")  # classes whose unreferenced objects may be selected without being orphans
NEVER = ("library", "archive")  # report only


def check_retention(system: System) -> None:
    """Raises ValueError 'retention.<policy>…: what is wrong'."""
    if system.preset is not None and system.preset not in system.presets:
        raise ValueError(f"preset: {system.preset!r} is not declared. Known: {', '.join(system.presets) or 'none'}")
    for name, policy in system.retention.items():
        at = f"retention.{name}"
        _check_stores(system, policy, at)
        _check_timings(system, policy, at)
        for other in policy.overlaps:
            if other not in system.retention:
                raise ValueError(f"{at}.overlaps: no policy {other!r} is declared")
        if policy.select.rows is not None and policy.act.objects is not None:
            tables = {policy.select.rows} | ({policy.select.owns.table} if policy.select.owns else set())
            if not any(r.table in tables and not r.protects_only for r in system.references):
                raise ValueError(
                    f"{at}.act.objects: no reference of {' or '.join(sorted(tables))} names an object; declare one"
                )
    for name, check in system.checks.items():
        for timing in named_timings(check.where):
            _timing_in_presets(system, timing, f"checks.{name}.where")
    for (one, first), (other, second) in combinations(system.retention.items(), 2):
        if other in first.overlaps or one in second.overlaps:
            continue
        if what := _both_take(first, second):
            raise ValueError(
                f"retention.{other}: it and {one!r} may take the same {what}. Keep wins in both; if it is meant, "
                f"write overlaps: {one}"
            )


def _check_stores(system: System, policy: Policy, at: str) -> None:
    known = ", ".join(system.stores)
    within = policy.select.within
    named = {
        "select": policy.select.store,
        "select.within.store": within.store if within else None,
        "act.objects.move_to": policy.act.objects.move_to if isinstance(policy.act.objects, Move) else None,
    } | {f"keep.{n}.store": rule.store for n, rule in enumerate(policy.keep)}
    for where, store in named.items():
        if store is not None and store not in system.stores:
            raise ValueError(f"{at}.{where}: store {store!r} is not declared. Known: {known}")
    selected = policy.select.store
    if selected is None:
        return
    scopes = [
        s for s in system.stores[selected].scopes
        if s.prefix.startswith(policy.select.prefix) or policy.select.prefix.startswith(s.prefix)
    ]  # fmt: skip
    if not scopes:
        raise ValueError(f"{at}.select.prefix: no scope of store {selected!r} holds {policy.select.prefix!r}")
    for scope in scopes:
        if not scope.exclusive:
            raise ValueError(
                f"{at}.select: scope {scope.prefix!r} of store {selected!r} is not declared exclusive: others may "
                f"refer to its objects"
            )
        if scope.class_ in NEVER:
            raise ValueError(f"{at}.select: scope {scope.prefix!r} is a {scope.class_}; it is only reported")
        if policy.select.objects is not None and scope.class_ not in SELECTABLE:
            raise ValueError(
                f"{at}.select: scope {scope.prefix!r} is of class {scope.class_}; its unreferenced objects are "
                f"orphans: write orphans, or declare the class temporary or cache"
            )
    if policy.select.orphans is not None and selected not in system.referenced_stores:
        raise ValueError(f"{at}.select.orphans: no reference names store {selected!r}, so nothing in it is an orphan")


def _check_timings(system: System, policy: Policy, at: str) -> None:
    for timing in policy.timings:
        if system.preset is None:
            raise ValueError(f"{at}.keep: {timing!r} is neither an age such as '30 d', nor is a preset declared")
        for preset, age in _timing_in_presets(system, timing, at).items():
            if policy.select.orphans is not None and age < FLOOR:
                raise ValueError(
                    f"presets.{preset}.{timing}: {format_duration(age)} is below the floor of "
                    f"{format_duration(FLOOR)} for orphans"
                )


def _timing_in_presets(system: System, timing: str, at: str) -> dict[str, timedelta]:
    """What each preset says. Raises ValueError where one lacks it, or says what is no age."""
    if system.preset is None:
        raise ValueError(f"{at}: it needs {timing!r} of a preset, and no preset is declared")
    found = {}
    for preset, values in system.presets.items():
        if timing not in values:
            raise ValueError(f"presets.{preset}: it lacks {timing!r}, which {at} needs")
        try:
            found[preset] = parse_duration(values[timing])
        except ValueError as error:
            raise ValueError(f"presets.{preset}.{timing}: {error}") from None
    return found


def _both_take(first: Policy, second: Policy) -> str | None:
    """What two policies may both take away, in a word."""
    if not (first.act.takes_away and second.act.takes_away):
        return None
    if first.select.rows is not None:
        owned = [p.select.owns.table for p in (first, second) if p.select.owns]
        mine = {first.select.rows, *owned[:1]} if first.select.owns else {first.select.rows}
        yours = {second.select.rows} | ({second.select.owns.table} if second.select.owns else set())
        return "rows" if second.select.rows is not None and mine & yours else None
    if first.select.store != second.select.store:
        return None
    one, other = first.select.prefix, second.select.prefix
    return "objects" if one.startswith(other) or other.startswith(one) else None


def resolved_timings(system: System, policy: Policy, environment: Mapping[str, str]) -> dict[str, str]:
    """What the presets and variables of one policy say in this deployment: preset, timings, days.

    Raises ValueError that names the variable and its value (S2-27, S2-28: A2-10).
    """
    found: dict[str, str] = {}
    chosen = chosen_preset(system, environment)
    if chosen is not None:
        found["preset"] = chosen
        found |= {timing: system.presets[chosen][timing] for timing in policy.timings}
    for rule in policy.keep:
        if rule.days_env is not None and (value := environment.get(rule.days_env, "").strip()):
            found[rule.days_env] = f"{parse_days(rule.days_env, value)} d"
    found["enabled"] = str(is_enabled(policy, environment)).lower()
    return found


def timings_of_checks(system: System, environment: Mapping[str, str]) -> dict[str, str]:
    """The chosen preset's values. Raises ValueError for a preset that is not declared."""
    chosen = chosen_preset(system, environment)
    return dict(system.presets[chosen]) if chosen is not None else {}


def chosen_preset(system: System, environment: Mapping[str, str]) -> str | None:
    """The preset that holds here. Raises ValueError for an unknown one."""
    chosen = (environment.get(system.preset_env, "").strip() if system.preset_env else "") or system.preset
    if chosen is not None and chosen not in system.presets:
        raise ValueError(f"{system.preset_env} is {chosen!r}; write one of {', '.join(system.presets)}")
    return chosen


def age_of(rule_age: timedelta | str, days_env: str | None, timings: Mapping[str, str]) -> timedelta:
    """The age that a younger_than rule means here."""
    if days_env is not None and days_env in timings:
        return parse_duration(timings[days_env])
    return rule_age if isinstance(rule_age, timedelta) else parse_duration(timings[rule_age])


def parse_days(variable: str, value: str) -> int:
    """Whole days, at least 1. Raises ValueError that names variable and value."""
    if value.isascii() and value.isdigit() and int(value) >= 1:
        return int(value)
    raise ValueError(f"{variable} is {value!r}; write a whole number of days, at least 1")


def is_enabled(policy: Policy, environment: Mapping[str, str]) -> bool:
    """See enabled_by."""
    return enabled_by(policy.enabled, policy.enabled_env, environment)


def enabled_by(said: bool, variable: str | None, environment: Mapping[str, str]) -> bool:
    """Only an explicit yes enables, only an explicit no disables (G09). Raises ValueError for anything else."""
    value = environment.get(variable, "").strip() if variable else ""
    if not value:
        return said
    if value.casefold() in ("true", "1", "yes"):
        return True
    if value.casefold() in ("false", "0", "no", "off"):
        return False
    raise ValueError(f"{variable} is {value!r}; write true or false")
