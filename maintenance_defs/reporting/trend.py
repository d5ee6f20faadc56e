"""How fast a store grows, from its earlier inventories, and when it reaches its limit (S3-46)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home

AT_LEAST = timedelta(days=1)  # two listings that are closer say nothing about a day


def growth(home: Home, inventory: Artefact | None, limit_bytes: int | None) -> dict[str, Any] | None:
    """bytes_per_day since the oldest of the last 30 listings, over how many days, days_to_limit (null: never).

    None while there is no complete listing, or none that is a day older (K14: nothing from incomplete data).
    """
    if inventory is None or inventory.verdict != "complete":
        return None
    earlier = [
        a
        for a in home.control.history(inventory.system, "inventory", inventory.name)
        if a.verdict == "complete" and inventory.as_of - a.as_of >= AT_LEAST
    ]
    if not earlier:
        return None
    first = min(earlier, key=lambda a: a.as_of)
    size = inventory.evidence["totals"]["size_bytes"]
    days = (inventory.as_of - first.as_of) / timedelta(days=1)
    per_day = (size - first.evidence["totals"]["size_bytes"]) / days
    left = None
    if limit_bytes is not None and (size >= limit_bytes or per_day > 0):
        left = 0.0 if size >= limit_bytes else round((limit_bytes - size) / per_day, 1)
    return {"bytes_per_day": round(per_day), "days": round(days, 1), "days_to_limit": left}
