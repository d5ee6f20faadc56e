"""What YAML may say about when something happens. Triggers start reconciliations, and nothing else yet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator

from maintenance_defs.core.declaration import Declared, EnvName, Name, Sql, Word
from maintenance_defs.core.quantities import Duration

OFF = "off"
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)  # any day: only whether a next one exists is asked


def parse_cron(value: str) -> str:
    """Five fields, or @daily and the like. Raises ValueError that says what to write."""
    # Here, because every verb of the command imports this module, and few ask for a schedule.
    from croniter import CroniterBadDateError, CroniterError, croniter

    cron = value.strip()
    try:
        if cron.startswith("@") or len(cron.split()) == 5:
            croniter(cron, _SOME_DAY).get_next()
            return cron
    except CroniterBadDateError:
        raise ValueError(f"{value!r} names a day that never comes") from None
    except CroniterError:
        pass
    raise ValueError(
        f"{value!r} is not a cron expression; write minute, hour, day, month and weekday, such as '0 3 * * *'"
    )


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{value!r} is not a time zone; write one such as 'UTC' or 'Europe/Warsaw'") from None
    return value


Cron = Annotated[str, AfterValidator(parse_cron)]
Zone = Annotated[str, AfterValidator(_known_zone)]


class Trigger(Declared):
    """Which system, and what is started."""

    system: Name
    run: Literal["reconciliation"]


class Schedule(Trigger):
    """Starts by the clock.

    cron_env: a variable that overrides `cron`; unset or empty: `cron` holds, 'off': no schedule.
    """

    cron: Cron
    cron_env: EnvName | None = None
    timezone: Zone = "UTC"
    running: bool = True  # else a person starts it in the UI

    def effective_cron(self, environment: Mapping[str, str]) -> str | None:
        """What holds here; None for 'off'. Raises ValueError that names the variable and its value."""
        value = environment.get(self.cron_env, "").strip() if self.cron_env else ""
        if value.casefold() == OFF:
            return None
        try:
            return parse_cron(value) if value else self.cron
        except ValueError as error:
            raise ValueError(f"{self.cron_env}: {error}; or 'off'. Unset, it would be {self.cron!r}") from None


class Watch(Declared):
    """New or changed rows of one table, seen by a column that only grows and the row's id."""

    table: Word
    cursor: tuple[Word, Word]  # [updated_at, id]
    where: Sql | None = None


class RowSensor(Trigger):
    """Starts when the database says so. It reads a table, never a bucket."""

    watch: Watch
    every: Duration = timedelta(seconds=60)
    running: bool = True


class HttpRequest(Trigger):
    """Starts when `maintain serve` is asked with the right secret."""
