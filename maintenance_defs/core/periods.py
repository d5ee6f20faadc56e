"""Days, weeks and months of UTC, as pages are written about them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from maintenance_defs.core.quantities import format_instant

Kind = Literal["day", "week", "month"]
FORMAT: dict[Kind, str] = {"day": "%Y-%m-%d", "week": "%Y-%m-%d", "month": "%Y-%m"}  # a week is named by its Monday
LENGTH: dict[Kind, timedelta] = {"day": timedelta(days=1), "week": timedelta(weeks=1)}  # up to now
_SHAPE: dict[Kind, str] = {"day": r"\d{4}-\d\d-\d\d", "week": r"\d{4}-\d\d-\d\d", "month": r"\d{4}-\d\d"}
_EXAMPLE: dict[Kind, str] = {"day": "2025-10-31", "week": "2025-10-31, any day of it", "month": "2025-10"}


@dataclass(frozen=True)
class Period:
    """[since, until). label: its name; None for the last 24 hours or seven days."""

    kind: Kind
    since: datetime
    until: datetime
    label: str | None

    @classmethod
    def around(cls, kind: Kind, day: date) -> Period:
        """The one that a day belongs to; weeks begin on Monday."""
        begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if kind == "week":
            begins -= timedelta(days=begins.weekday())
        elif kind == "month":
            begins = begins.replace(day=1)
        after = (begins + timedelta(days=31)).replace(day=1) if kind == "month" else begins + LENGTH[kind]
        return cls(kind, begins, after, begins.strftime(FORMAT[kind]))

    @classmethod
    def parse(cls, kind: Kind, text: str) -> Period:
        """Raises ValueError that says what to write."""
        try:
            if re.fullmatch(_SHAPE[kind], text):
                return cls.around(kind, date.fromisoformat(text if kind != "month" else f"{text}-01"))
        except ValueError:
            pass
        raise ValueError(f"{text!r} is not a {kind}; write it such as {_EXAMPLE[kind]}")

    @classmethod
    def up_to(cls, kind: Kind, now: datetime) -> Period:
        """The last 24 hours, or the last seven days."""
        return cls(kind, now - LENGTH[kind], now, None)

    @classmethod
    def before(cls, kind: Kind, day: date) -> Period:
        """The one that was over when that of `day` began."""
        return cls.around(kind, (cls.around(kind, day).since - timedelta(days=1)).date())

    def words(self) -> str:
        """Behind the name of a system: `in 2025-10`."""
        if self.label is None:
            hours = (self.until - self.since) / timedelta(hours=1)
            last = "24 hours" if hours == 24 else "seven days"
            return f"in the {last} to {format_instant(self.until.replace(microsecond=0))}"
        return {"day": "on", "week": "in the week from", "month": "in"}[self.kind] + f" {self.label}"
