"""The change between two listings of a store, or two measurements of a database: the one calculation of rates."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.growth import Growth

DAY = timedelta(days=1)  # two listings that are closer say nothing about a day
NEAR_A_DAY = (timedelta(hours=12), timedelta(hours=36))  # what is nearest to 24 h ago, among these


def first_in_window(home: Home, now: Artefact, window: timedelta) -> Artefact | None:
    """The earliest complete one of the window, of the same bucket; None while none is a day older."""
    found = home.control.complete_between(
        now.system, now.kind, now.name, now.as_of - window, now.as_of - DAY, before=now.id
    )
    return of_same_place(home, found, now.evidence.get("identity"))


def day_before(home: Home, now: Artefact) -> Artefact | None:
    """The complete one nearest to 24 h ago; None where there is none from 12 to 36 h ago."""
    near, far = NEAR_A_DAY
    found = home.control.complete_between(
        now.system, now.kind, now.name, now.as_of - far, now.as_of - near, before=now.id
    )
    found.sort(key=lambda one: abs(now.as_of - one[0] - DAY))
    return of_same_place(home, found, now.evidence.get("identity"))


def of_same_place(home: Home, found: Iterable[tuple[datetime, str]], identity: str | None) -> Artefact | None:
    """The first one that was made of this bucket or database."""
    # Read one by one: not every database can look into JSON that holds any text.
    read = (home.control.get(id_) for _, id_ in found)
    return next((one for one in read if one.evidence.get("identity") == identity), None)


def change(now: dict[str, Any], before: dict[str, Any], elapsed: timedelta) -> dict[str, Any] | None:
    """`objects` or `rows`, and `size_bytes`: by how much they changed, and per day; percent of the size before.

    A number that one side does not know is left out; None where nothing is known.
    """
    days = elapsed / DAY
    found: dict[str, Any] = {}
    for name in ("objects", "rows", "size_bytes"):
        if now.get(name) is not None and before.get(name) is not None:
            found[name] = now[name] - before[name]
            found["bytes_per_day" if name == "size_bytes" else f"{name}_per_day"] = round(found[name] / days, 3)
    if not found:
        return None
    if "size_bytes" in found:
        found["bytes_per_day"] = round(found["bytes_per_day"])
        found["percent"] = round(100 * found["size_bytes"] / before["size_bytes"], 2) if before["size_bytes"] else None
    return {"days": round(days, 3)} | found


def days_to_limit(size_bytes: int, bytes_per_day: float | None, limit_bytes: int | None) -> float | None:
    """0 where it is reached; None where there is no limit, or it does not come nearer."""
    if limit_bytes is None:
        return None
    if size_bytes >= limit_bytes:
        return 0.0
    return round((limit_bytes - size_bytes) / bytes_per_day, 1) if bytes_per_day and bytes_per_day > 0 else None


def trend(home: Home, inventory: Artefact | None, limit_bytes: int | None, window: timedelta) -> dict[str, Any] | None:
    """bytes_per_day since the oldest listing of the window, over how many days, days_to_limit (null: never).

    None while there is no complete listing, or none that is a day older (K14).
    """
    if inventory is None or inventory.verdict != "complete":
        return None
    first = first_in_window(home, inventory, window)
    if first is None:
        return None
    totals = inventory.evidence["totals"]
    seen = change(totals, first.evidence["totals"], inventory.as_of - first.as_of)
    if seen is None:
        return None
    left = days_to_limit(totals["size_bytes"], seen["bytes_per_day"], limit_bytes)
    return {"bytes_per_day": seen["bytes_per_day"], "days": round(seen["days"], 1), "days_to_limit": left}


def in_a_day(home: Home, inventory: Artefact) -> dict[str, Any] | None:
    """The change of a complete listing since the one nearest to 24 h ago; see `change`."""
    before = day_before(home, inventory)
    if before is None:
        return None
    return change(inventory.evidence["totals"], before.evidence["totals"], inventory.as_of - before.as_of)


def level(day: dict[str, Any] | None, growth: Growth) -> str:
    """ok, warn or fail by what a store grew in 24 h (S1-53); unknown where there is nothing to compare.

    Growth below the floor is ok. What took more than 24 h is taken per 24 h; a store that was empty has no
    percentage, and warns.
    """
    if day is None or "size_bytes" not in day:
        return "unknown"
    share = max(day["days"], 1.0)
    if day["size_bytes"] / share < growth.floor:
        return "ok"
    if day["percent"] is None:
        return "warn"
    percent = day["percent"] / share
    return "fail" if percent >= growth.fail_percent else "warn" if percent >= growth.warn_percent else "ok"
