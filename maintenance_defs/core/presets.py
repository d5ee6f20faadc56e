"""Which preset holds at an instant. One that expires falls back to production, and lets no more go by that (S1-5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from maintenance_defs.core.quantities import format_duration, format_instant, parse_duration, parse_instant

if TYPE_CHECKING:
    from maintenance_defs.core.declaration import System

PRODUCTION = "production"
EXPIRES = "expires_at"
WARN_BEFORE = timedelta(hours=24)  # one working day to see it, and to choose another


@dataclass(frozen=True)
class Preset:
    """chosen: by the declaration or a variable. holds: what decides at this instant."""

    chosen: str
    holds: str
    expires_at: datetime | None = None
    message: str | None = None  # it expired, or will soon

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        expires = format_instant(self.expires_at) if self.expires_at else None
        return {"chosen": self.chosen, "holds": self.holds, "expires_at": expires, "message": self.message}


def chosen_preset(system: System, environment: Mapping[str, str]) -> str | None:
    """The preset that is chosen here, expired or not. Raises ValueError for an unknown one."""
    chosen = (environment.get(system.preset_env, "").strip() if system.preset_env else "") or system.preset
    if chosen is not None and chosen not in system.presets:
        raise ValueError(f"{system.preset_env} is {chosen!r}; write one of {', '.join(system.presets)}")
    return chosen


def preset_at(system: System, environment: Mapping[str, str], at: datetime) -> Preset | None:
    """What holds at `at`, the run's instant; from `expires_at` on it is production. Raises ValueError as above."""
    chosen = chosen_preset(system, environment)
    if chosen is None:
        return None
    said = system.presets[chosen].get(EXPIRES)
    if said is None:
        return Preset(chosen, chosen)
    expires_at = parse_instant(said)
    if at >= expires_at:
        how = f"{system.preset_env}={PRODUCTION}" if system.preset_env else f"preset: {PRODUCTION}"
        words = f"preset {chosen} expired at {format_instant(expires_at)}, so {PRODUCTION} holds. Set {how}"
        return Preset(chosen, PRODUCTION, expires_at, f"{words}, or a later {EXPIRES} and approve again.")
    soon = expires_at - at <= WARN_BEFORE
    words = f"preset {chosen} expires at {format_instant(expires_at)}; from then on {PRODUCTION} holds."
    return Preset(chosen, chosen, expires_at, words if soon else None)


def check_expiry(system: System) -> Iterator[str]:
    """What is wrong with `expires_at`: 'presets.<preset>.<field>: what'."""
    ages = {timing for policy in system.retention.values() for timing in policy.timings}
    for preset, values in system.presets.items():
        if EXPIRES not in values:
            continue
        at = f"presets.{preset}.{EXPIRES}"
        try:
            parse_instant(values[EXPIRES])
        except ValueError as error:
            yield f"{at}: {error}"
        if preset == PRODUCTION or PRODUCTION not in system.presets:
            yield f"{at}: what expires falls back to {PRODUCTION}, so {PRODUCTION} must be declared and cannot expire"
            continue
        for timing in sorted(ages & values.keys()):
            here, then = _age(values[timing]), _age(system.presets[PRODUCTION].get(timing))
            if here is not None and then is not None and here > then:
                yield (
                    f"presets.{preset}.{timing}: {format_duration(here)} is longer than {format_duration(then)} of "
                    f"{PRODUCTION}, so more would go when the preset expires. Only one that keeps less may expire"
                )


def _age(value: str | None) -> timedelta | None:
    """None for what is no age: whoever checks the timings says so."""
    try:
        return parse_duration(value)
    except ValueError:
        return None
