"""What YAML may say about when something happens: a reconciliation, a restore drill, cycles of policies or archives.

Source: S0-30, S1-2..S1-7, S1-24, S2-19, S3-46, S3-60; A0-9, A1-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from maintenance_defs.core.periods import Kind
from maintenance_defs.core.presets import preset_at
from maintenance_defs.core.quantities import Duration
from maintenance_defs.core.vocabulary import Declared, EnvName, Name, OneOrMore, Sql, Word, template_columns

if TYPE_CHECKING:
    from maintenance_defs.core.declaration import System

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


def ticks(cron: str, timezone: str, since: datetime, until: datetime) -> int:
    """How often a schedule starts in [since, until)."""
    from croniter import croniter

    found = 0
    zone = ZoneInfo(timezone)
    times = croniter(cron, (since - timedelta(microseconds=1)).astimezone(zone))
    while times.get_next(datetime).astimezone(UTC) < until:
        found += 1
    return found


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{value!r} is not a time zone; write one such as 'UTC' or 'Europe/Warsaw'") from None
    return value


ARCHIVE_RUNS = ("archive", "archive_ahead", "archive_drill")  # over all archives of a system
REPORTS: dict[str, Kind] = {"daily_report": "day", "weekly_report": "week", "monthly_report": "month"}  # of what period
Cron = Annotated[str, AfterValidator(parse_cron)]
Zone = Annotated[str, AfterValidator(_known_zone)]


class Trigger(Declared):
    """Which system, and what is started: a run, or one cycle of these policies, one after the other."""

    system: Name
    run: (
        Literal[
            "reconciliation", "growth", "restore_drill", "archive", "archive_ahead", "archive_drill",
            "daily_report", "weekly_report", "monthly_report",
        ] | None
    ) = None  # fmt: skip
    policy: Annotated[tuple[Name, ...], OneOrMore] = ()
    name: Name | None = None  # of the job that several policies share: cleanup

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.run is None) == (not self.policy):
            raise ValueError("say what is started: run: reconciliation, or policy: its name")
        if len(set(self.policy)) != len(self.policy):
            raise ValueError("policy: the same one is named twice")
        if (len(self.policy) > 1) != (self.name is not None):
            raise ValueError("several policies, and only they, need a name for the job that they share: name: cleanup")
        return self

    @property
    def starts(self) -> str:
        """What the job is called behind the system's name."""
        return self.run or self.name or self.policy[0]


class Schedule(Trigger):
    """Starts by the clock.

    cron_env: a variable that overrides `cron`; unset or empty: `cron` holds, 'off': no schedule.
    cron_preset: instead of `cron`, an entry of the system's presets that holds the expression.
    """

    cron: Cron | None = None
    cron_preset: Name | None = None
    cron_env: EnvName | None = None
    timezone: Zone = "UTC"
    running: bool = True  # else a person starts it in the UI

    @model_validator(mode="after")
    def _one_cron(self) -> Self:
        if (self.cron is None) == (self.cron_preset is None):
            raise ValueError("write either cron or cron_preset")
        return self

    def effective_cron(self, environment: Mapping[str, str], at: datetime, system: System | None = None) -> str | None:
        """What holds here at an instant; None for 'off'. Raises ValueError that names variable or preset and value.

        system: whose presets `cron_preset` means.
        """
        value = environment.get(self.cron_env, "").strip() if self.cron_env else ""
        if value.casefold() == OFF:
            return None
        otherwise = self.cron or self._of_preset(environment, at, system)
        try:
            return parse_cron(value) if value else otherwise
        except ValueError as error:
            raise ValueError(f"{self.cron_env}: {error}; or 'off'. Unset, it would be {otherwise!r}") from None

    def _of_preset(self, environment: Mapping[str, str], at: datetime, system: System | None) -> str:
        chosen = preset_at(system, environment, at) if system is not None else None
        if system is None or chosen is None:
            raise ValueError(f"cron_preset: {self.system} declares no preset")
        for preset, values in system.presets.items():  # all of them: another one may be chosen tomorrow
            if self.cron_preset not in values:
                raise ValueError(f"cron_preset: presets.{preset} of {self.system} has no {self.cron_preset!r}")
            try:
                parse_cron(values[self.cron_preset])
            except ValueError as error:
                raise ValueError(f"presets.{preset}.{self.cron_preset} of {self.system}: {error}") from None
        return parse_cron(system.presets[chosen.holds][self.cron_preset or ""])


class Watch(Declared):
    """New or changed rows of one table, seen by a column that only grows and the row's id."""

    table: Word
    cursor: tuple[Word, Word]  # [updated_at, id]
    where: Sql | None = None
    says: Word | None = None  # what is new, with columns of the newest row: 'new delivery {delivery_id}'
    groups: Word | None = None  # a column that names what is new: only these groups of the policy are planned

    @model_validator(mode="after")
    def _template(self) -> Self:
        template_columns(self.says or "")
        return self


class RowSensor(Trigger):
    """Starts when the database says so. It reads a table, never a bucket."""

    watch: Watch
    every: Duration = timedelta(seconds=60)
    running: bool = True

    @model_validator(mode="after")
    def _groups_of_policies(self) -> Self:
        if self.watch.groups is not None and not self.policy:
            raise ValueError("watch.groups: only a policy can be planned for some of its groups; name it: policy: …")
        return self


class HttpRequest(Trigger):
    """Starts a reconciliation when `maintain serve` is asked with the right secret. Never a policy (S2-21)."""

    run: Literal["reconciliation"] = "reconciliation"


class BurnIn(Trigger):
    """Validates a system often in the first week of each of its policies: the ladder of core/burn_in.py (S1-27)."""

    run: Literal["reconciliation"] = "reconciliation"
    running: bool = True


class Backlog(Trigger):
    """Starts a cycle when the last plan of one of the policies left more than `above` units undone (S1-24)."""

    policy: Annotated[tuple[Name, ...], OneOrMore] = Field(min_length=1)
    above: Annotated[int, Field(ge=0, strict=True)]
    every: Duration = timedelta(minutes=5)
    running: bool = True


class ApprovedPlans(Declared):
    """Starts what a plan says once a person approved it, wherever they did."""

    system: Name
    policy: Annotated[tuple[Name, ...], OneOrMore] = ()  # policies or archives; all of the system's where none is named
    running: bool = True

    @property
    def starts(self) -> str:
        return "approved_plans"


class ColdMonths(Declared):
    """Starts the export of a month once it is cold. Nothing leaves its table by that."""

    system: Name
    archive: Annotated[tuple[Name, ...], OneOrMore] = ()  # all of the system's where none is named
    every: Duration = timedelta(hours=1)
    running: bool = True

    @property
    def starts(self) -> str:
        return "cold_months"
