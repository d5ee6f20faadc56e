"""One thing that `maintain doctor` looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warn", "fail", "unknown"]
Where = Callable[[tuple[str | int, ...]], str]


@dataclass(frozen=True)
class Finding:
    """`subject` is what was looked at, `what` what was seen, `todo` what to do about it ('' when well)."""

    system: str
    subject: str
    status: Status
    what: str
    todo: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
