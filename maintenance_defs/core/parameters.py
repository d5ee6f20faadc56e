"""What SQL in YAML may ask for: `:as_of`, and `:timing_<name>`, a timing of the chosen preset in whole seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from maintenance_defs.core.quantities import parse_duration

TIMING = "timing_"
_NAMED = re.compile(r"(?<![:\w]):(as_of|timing_[a-z][a-z0-9_]*)\b")


def named_timings(sql: str | None) -> tuple[str, ...]:
    """Timings that the SQL uses, in order of appearance."""
    names = dict.fromkeys(_NAMED.findall(sql or ""))
    return tuple(name.removeprefix(TIMING) for name in names if name.startswith(TIMING))


def named_parameters(sql: str | None, as_of: datetime, timings: Mapping[str, str]) -> dict[str, Any]:
    """The values of the parameters that the SQL uses. Raises ValueError for a timing that no preset gives."""
    return {name: _value(name, as_of, timings) for name in _NAMED.findall(sql or "")}


def placed_parameters(sql: str, as_of: datetime, timings: Mapping[str, str]) -> tuple[str, list[Any]]:
    """The SQL with `?` for each parameter, and their values in this order."""
    values = [_value(name, as_of, timings) for name in _NAMED.findall(sql)]
    return _NAMED.sub("?", sql), values


def _value(name: str, as_of: datetime, timings: Mapping[str, str]) -> Any:
    if name == "as_of":
        return as_of
    timing = name.removeprefix(TIMING)
    if timing not in timings:
        raise ValueError(f":{name} is used, but no preset gives {timing!r}")
    return int(parse_duration(timings[timing]).total_seconds())
