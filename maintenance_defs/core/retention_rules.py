"""What must hold between the policies of a system and the rest of its declaration (I13, I15, E04)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import combinations
from typing import TYPE_CHECKING

from maintenance_defs.core.parameters import named_timings
from maintenance_defs.core.policy import FLOOR, Move, Policy
from maintenance_defs.core.presets import check_expiry, preset_at
from maintenance_defs.core.problems import known_names
from maintenance_defs.core.quantities import format_duration, parse_duration

if TYPE_CHECKING:
    from maintenance_defs.core.declaration import System

SELECTABLE = ("temporary", "cache")  # classes whose unreferenced objects may be selected without being orphans
NEVER = ("library", "archive")  # report only


def check_retention(system: System) -> Iterator[str]:
    """What does not hold between policies and the rest of a declaration: 'retention.<policy>…: what is wrong'."""
    if system.preset is not None and system.preset not in system.presets:
        yield f"preset: {system.preset!r} is not declared. {known_names(system.preset, system.presets)}"
    yield from check_expiry(system)
    for name, policy in system.retention.items():
        at = f"retention.{name}"
        yield from _check_stores(system, policy, at)
        yield from _check_timings(system, policy, at)
        for other in policy.overlaps:
            if other not in system.retention:
                yield f"{at}.overlaps: no policy {other!r} is declared. {known_names(other, system.retention)}"
        if policy.select.rows is not None and policy.act.objects is not None:
            tables = {policy.select.rows} | ({policy.select.owns.table} if policy.select.owns else set())
            if not any(r.table in tables and not r.protects_only for r in system.references):
                yield f"{at}.act.objects: no reference of {' or '.join(sorted(tables))} names an object. Declare one"
    for name, check in system.checks.items():
        for timing in named_timings(check.where):
            yield from _timing_in_presets(system, timing, f"checks.{name}.where")
    for (one, first), (other, second) in combinations(system.retention.items(), 2):
        if other in first.overlaps or one in second.overlaps:
            continue
        if what := _both_take(first, second):
            yield (
                f"retention.{other}: it and {one!r} may take the same {what}. Keep wins in both; if it is meant, "
                f"write overlaps: {one}"
            )


def _check_stores(system: System, policy: Policy, at: str) -> Iterator[str]:
    within = policy.select.within
    selected = policy.select.store
    named = {
        f"select.{'orphans' if policy.select.orphans else 'objects'}": selected,
        "select.within.store": within.store if within else None,
        "act.objects.move_to": policy.act.objects.move_to if isinstance(policy.act.objects, Move) else None,
    } | {f"keep.{n}.store": rule.store for n, rule in enumerate(policy.keep)}
    for where, store in named.items():
        if store is not None and store not in system.stores:
            yield f"{at}.{where}: store {store!r} is not declared. {known_names(store, system.stores)}"
    if selected is None or selected not in system.stores:
        return
    declared = system.stores[selected].scopes
    prefix = policy.select.prefix
    scopes = [s for s in declared if s.prefix.startswith(prefix) or prefix.startswith(s.prefix)]
    if not scopes:
        hint = known_names(prefix, [scope.prefix for scope in declared])
        yield f"{at}.select.prefix: no scope of store {selected!r} holds {prefix!r}. {hint}"
    for scope in scopes:
        which = f"{at}.select: scope {scope.prefix!r} of store {selected!r}"
        if not scope.exclusive:
            yield f"{which} is not declared exclusive: others may refer to its objects"
        if scope.class_ in NEVER:
            yield f"{which} is of class {scope.class_}; it is only reported"
        elif policy.select.objects is not None and scope.class_ not in SELECTABLE:
            yield (
                f"{which} is of class {scope.class_}; its unreferenced objects are orphans. Write orphans, or declare "
                f"the class temporary or cache"
            )
    if policy.select.orphans is not None and selected not in system.referenced_stores:
        yield f"{at}.select.orphans: no reference names store {selected!r}, so nothing in it is an orphan"


def _check_timings(system: System, policy: Policy, at: str) -> Iterator[str]:
    for number, rule in enumerate(policy.keep):
        timing = rule.younger_than
        if not isinstance(timing, str):
            continue
        if system.preset is None:
            yield (
                f"{at}.keep.{number}.younger_than: {timing!r} is neither an age such as '30 d', nor is a preset "
                f"declared"
            )
            continue
        yield from _timing_in_presets(system, timing, at)
        for preset, values in system.presets.items():
            age = _age_or_none(values.get(timing))
            if policy.select.orphans is not None and age is not None and age < FLOOR:
                yield (
                    f"presets.{preset}.{timing}: {format_duration(age)} is below the floor of "
                    f"{format_duration(FLOOR)} for orphans"
                )


def _timing_in_presets(system: System, timing: str, at: str) -> Iterator[str]:
    """Presets that lack it, or say what is no age."""
    if system.preset is None:
        yield f"{at}: it needs {timing!r} of a preset, and no preset is declared"
        return
    for preset, values in system.presets.items():
        if timing not in values:
            yield f"presets.{preset}: it lacks {timing!r}, which {at} needs. {known_names(timing, values)}"
            continue
        try:
            parse_duration(values[timing])
        except ValueError as error:
            yield f"presets.{preset}.{timing}: {error}"


def _age_or_none(value: str | None) -> timedelta | None:
    """None for what _timing_in_presets complains of."""
    try:
        return parse_duration(value)
    except ValueError:
        return None


def _both_take(first: Policy, second: Policy) -> str | None:
    """What two policies may both take away, in a word."""
    if not (first.act.takes_away and second.act.takes_away):
        return None
    if any(_may_be_one(mine, yours) for mine in _tables(first) for yours in _tables(second)):
        return "rows"
    if first.select.store is None or first.select.store != second.select.store:
        return None
    one, other = first.select.prefix, second.select.prefix
    return "objects" if one.startswith(other) or other.startswith(one) else None


def _tables(policy: Policy) -> list[str]:
    """The tables whose rows it takes."""
    select = policy.select
    return [table for table in (select.rows, select.owns.table if select.owns else None) if table is not None]


def _may_be_one(table: str, other: str) -> bool:
    """Whether two names may mean one table: a name without its schema fits any."""
    return table == other or (("." in table) != ("." in other) and table.split(".")[-1] == other.split(".")[-1])


def resolved_timings(system: System, policy: Policy, environment: Mapping[str, str], at: datetime) -> dict[str, str]:
    """What the presets and variables of one policy say in this deployment at an instant: preset, timings, days.

    Raises ValueError that names the variable and its value (S2-27, S2-28: A2-10).
    """
    found: dict[str, str] = {}
    preset = preset_at(system, environment, at)
    if preset is not None:
        found["preset"] = preset.holds
        found |= {timing: system.presets[preset.holds][timing] for timing in policy.timings}
    for rule in policy.keep:
        if rule.days_env is not None and (value := environment.get(rule.days_env, "").strip()):
            found[rule.days_env] = f"{parse_days(rule.days_env, value)} d"
    found["enabled"] = str(is_enabled(policy, environment)).lower()
    return found


def timings_of_checks(system: System, environment: Mapping[str, str], at: datetime) -> dict[str, str]:
    """The values of the preset that holds at an instant. Raises ValueError for a preset that is not declared."""
    preset = preset_at(system, environment, at)
    return dict(system.presets[preset.holds]) if preset is not None else {}


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
