"""What YAML may say about growth: when a store grows too fast, which tables are measured, what is expected.

A projection is a declared expectation, printed with its inputs beside what was measured; what was measured counts
where there is something. A month is 30 days, a year 12 months.
Source: S1-53, S3-38..S3-40, S4-1..S4-9; X-14, X-15; A3-11, A4-12.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from maintenance_defs.core.problems import known_names
from maintenance_defs.core.quantities import Duration, SizeBytes, parse_duration, parse_size
from maintenance_defs.core.vocabulary import Declared, Name, Strings, Word

if TYPE_CHECKING:
    from maintenance_defs.core.declaration import System

Per = Literal["hour", "day", "week", "month"]
HOURS: Mapping[str, int] = {"hour": 1, "day": 24, "week": 168, "month": 720}
_NUMBER = r"\d+(?:\.\d+)?"
_UNIT = "B|kB|MB|GB|TB|PB"
_SIZES = re.compile(rf"({_NUMBER})(?: ?({_UNIT}))?(?:-({_NUMBER}))? ?({_UNIT})")
_COUNTS = re.compile(rf"({_NUMBER})([KM]?)(?:-({_NUMBER})([KM]?))?")
_TIMES = {"": 1, "K": 1_000, "M": 1_000_000}


@dataclass(frozen=True)
class Range:
    """From `low` to `high`; the same number twice where it is one."""

    low: float
    high: float

    def __mul__(self, other: Range | float) -> Range:
        by = other if isinstance(other, Range) else Range(other, other)
        return Range(self.low * by.low, self.high * by.high)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class Flow:
    """So much in each `per`: records, or bytes."""

    amount: Range
    per: Per

    def to(self, per: Per) -> Range:
        """The same in another unit of time."""
        return Range(*(value * HOURS[per] / HOURS[self.per] for value in (self.amount.low, self.amount.high)))


def parse_sizes(value: Any) -> Range:
    """`5 MB`, `1-3 kB`, `500 kB-2 MB` in bytes. Raises ValueError that says what to write."""
    found = _SIZES.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found or (found[2] and not found[3]):
        raise ValueError(f"{value!r} is not a size; write a number or two and a unit, such as '5 MB' or '1-3 kB'")
    high = f"{found[3] or found[1]} {found[4]}"
    return _upwards(value, parse_size(f"{found[1]} {found[2] or found[4]}"), parse_size(high))


def parse_counts(value: Any) -> Range:
    """`24`, `3M`, `100K-500K`. Raises ValueError that says what to write."""
    found = _COUNTS.fullmatch(str(value).strip()) if isinstance(value, str | int) else None
    if not found or float(found[1]) == 0:
        raise ValueError(f"{value!r} is not a number of records; write one such as '24', '50K' or '100K-500K'")
    low = float(found[1]) * _TIMES[found[2]]
    return _upwards(value, low, float(found[3]) * _TIMES[found[4]] if found[3] else low)


def _upwards(value: Any, low: float, high: float) -> Range:
    if low > high:
        raise ValueError(f"{value!r} runs downwards; write the smaller number first")
    return Range(low, high)


def _flow(value: Any, example: str, amount: Any) -> Flow:
    if isinstance(value, Flow):
        return value
    words = value.rsplit(" per ", 1) if isinstance(value, str) else []
    per = words[1].strip() if len(words) == 2 else None
    if per not in get_args(Per):
        raise ValueError(f"{value!r} says no time; write {', '.join(f'per {one}' for one in HOURS)}: {example!r}")
    return Flow(amount(words[0]), per)  # type: ignore[arg-type]  # it is one of them


def _each(value: Any) -> Range | timedelta:
    if isinstance(value, Range | timedelta):
        return value
    try:
        return parse_sizes(value)
    except ValueError:
        pass
    try:
        return parse_duration(value)
    except ValueError:
        raise ValueError(
            f"{value!r} is neither a size nor a length; write one such as '5 MB', '1-3 kB' or '60 s'"
        ) from None


Counts = Annotated[Flow, BeforeValidator(lambda value: _flow(value, "100K-500K per month", parse_counts))]
Bytes = Annotated[Flow, BeforeValidator(lambda value: _flow(value, "1.44 GB per day", parse_sizes))]
Each = Annotated[Range | timedelta, BeforeValidator(_each)]


class Projection(Declared):
    """What is expected to come, and what of it stays: records x size, or the growth that somebody stated."""

    describe: str = ""
    records: Counts | None = None  # '24 per hour', '100K-500K per month'
    each: Each | None = None  # '1-3 kB', or how long each lasts: '60 s', with per_minute
    per_minute: SizeBytes | None = None
    grows: Bytes | None = None  # stated; counts instead of records x each, which is printed beside it
    kept_for: Duration | None = None  # then it goes: what stays is growth x so long
    part_of: Name | None = None  # another projection, which holds it already: not in the sum
    store: Name | None = None  # measured by this store …
    prefix: str = ""  # … or one of its scopes
    table: Word | None = None  # or measured by this table, which need not exist …
    column: Word | None = None  # … or one column of it
    time: Word | None = None  # when a row came, where no reference or archive says it

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.records is None) != (self.each is None):
            raise ValueError("records and each belong together: {records: 24 per hour, each: 5 MB}")
        if self.records is None and self.grows is None:
            raise ValueError("say what comes: records and each, or grows")
        if isinstance(self.each, timedelta) != (self.per_minute is not None):
            raise ValueError("each: a length needs per_minute, a size takes none: {each: 60 s, per_minute: 5 MB}")
        if self.store is not None and self.table is not None:
            raise ValueError("it is measured by a store or by a table, not by both")
        if self.prefix and self.store is None:
            raise ValueError("prefix belongs to a store")
        if (self.column or self.time) and self.table is None:
            raise ValueError("column and time belong to a table")
        return self

    @property
    def each_bytes(self) -> Range | None:
        """The size of one record."""
        if isinstance(self.each, timedelta):
            size = self.each.total_seconds() * (self.per_minute or 0) / 60
            return Range(size, size)
        return self.each

    @property
    def product(self) -> Flow | None:
        """Records x each."""
        size = self.each_bytes
        return Flow(self.records.amount * size, self.records.per) if self.records and size else None

    @property
    def flow(self) -> Flow:
        """What counts as projected: what was stated, else the product."""
        found = self.grows or self.product
        if found is None:
            raise ValueError("neither grows nor records")  # no such projection can be made
        return found


class Saving(Declared):
    """What a change is expected to save."""

    describe: str
    saves: Bytes


class Risk(Declared):
    """From how much growth a month on a projection is called so, by its upper end."""

    critical: SizeBytes = 1_500_000_000
    high: SizeBytes = 500_000_000
    medium: SizeBytes = 50_000_000

    @model_validator(mode="after")
    def _descends(self) -> Self:
        if not self.critical > self.high > self.medium:
            raise ValueError("critical must be above high, and high above medium")
        return self

    def of(self, per_month: float) -> str:
        """critical, high, medium or low."""
        bands = (("critical", self.critical), ("high", self.high), ("medium", self.medium))
        return next((name for name, above in bands if per_month >= above), "low")


class Growth(Declared):
    """How growth is measured and judged; nothing needs to be said."""

    window: Duration = timedelta(days=30)  # rates are taken over so long, or as long as there is something
    warn_percent: float = Field(default=10, gt=0, allow_inf_nan=False)  # a store in 24 h (S1-53)
    fail_percent: float = Field(default=20, gt=0, allow_inf_nan=False)
    floor: SizeBytes = 100_000_000  # growth of less is nobody's concern: 2 MB beside 10 MB are 20 %
    tables: Strings = ()  # further tables to measure; they need not exist
    by: dict[Word, Word] = {}  # table -> a column with few values, such as a state: its rows are counted by it (S3-33)
    risk: Risk = Risk()
    projections: dict[Name, Projection] = {}
    savings: dict[Name, Saving] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.window < timedelta(days=2):
            raise ValueError("window: must be 2 d or more; two listings less than a day apart say nothing")
        if self.warn_percent > self.fail_percent:
            raise ValueError("warn_percent: must not be above fail_percent")
        return self

    def parts_of(self, name: str) -> list[str]:
        """The projections that it holds."""
        return [part for part, one in self.projections.items() if one.part_of == name]


def check_growth(system: System) -> Iterator[str]:
    """Names that do not meet, each 'path: what. What to write instead'."""
    projections = system.growth.projections
    for name, one in projections.items():
        at = f"growth.projections.{name}"
        if one.part_of is not None:
            known = [other for other in projections if other != name]
            if one.part_of not in known:
                yield f"{at}.part_of: no other projection is {one.part_of!r}. {known_names(one.part_of, known)}"
            elif projections[one.part_of].part_of is not None:
                yield f"{at}.part_of: {one.part_of!r} is a part itself. Name the whole"
        if one.store is None:
            continue
        if one.store not in system.stores:
            yield f"{at}.store: {one.store!r} is not declared. {known_names(one.store, system.stores)}"
            continue
        prefixes = [scope.prefix for scope in system.stores[one.store].scopes if scope.prefix]
        if one.prefix and one.prefix not in prefixes:
            hint = known_names(one.prefix, prefixes)
            yield f"{at}.prefix: {one.prefix!r} is no scope of store {one.store!r}. {hint}"


@dataclass(frozen=True)
class Measured:
    """What was seen of one projection: bytes a day, records a day where they are counted, and how it was seen."""

    bytes_per_day: float
    records_per_day: float | None
    how: str


@dataclass(frozen=True)
class Projected:
    """One projection beside its measurement; `expected` is what counts: measured where something was."""

    name: str
    declared: Projection
    flow: Flow
    measured: Measured | None
    expected: Flow
    risk: str  # of what was projected
    expected_risk: str


def kept(flow: Flow, age: timedelta | None) -> Range | None:
    """Growth x how long it stays; None where nothing is said to go."""
    return None if age is None else flow.to("day") * (age / timedelta(days=1))


def project(growth: Growth, measured: Mapping[str, Measured]) -> list[Projected]:
    """Every projection beside what was measured. A whole that is not measured itself is the sum of its parts."""
    found = []
    for name, one in growth.projections.items():
        seen = measured.get(name) or _of_parts([measured.get(part) for part in growth.parts_of(name)])
        expected = one.flow if seen is None else Flow(Range(seen.bytes_per_day, seen.bytes_per_day), "day")
        risks = [growth.risk.of(flow.to("month").high) for flow in (one.flow, expected)]
        found.append(Projected(name, one, one.flow, seen, expected, *risks))
    return found


def _of_parts(parts: list[Measured | None]) -> Measured | None:
    seen = [part for part in parts if part is not None]
    if not seen or len(seen) < len(parts):
        return None
    return Measured(sum(part.bytes_per_day for part in seen), None, "the sum of its parts")


def total(flows: Mapping[str, Flow], projections: Mapping[str, Projection]) -> Range:
    """Bytes a month of everything that is no part of another."""
    wholes = [flow.to("month") for name, flow in flows.items() if projections[name].part_of is None]
    return sum(wholes, Range(0, 0))


def total_savings(growth: Growth) -> Range:
    """Bytes a month."""
    return sum((saving.saves.to("month") for saving in growth.savings.values()), Range(0, 0))
