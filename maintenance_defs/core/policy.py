"""What YAML may say about retention: what may go, the reasons to stay, what is done, and within which limits.

A keep rule is a reason to stay; adding one never lets more go. What is not understood does not load (I15).
Source: S0-20..S0-28, S1-2..S1-5, S1-37, S2-27..S2-29, S3-13..S3-35; hazards G, K, I12; X-3, X-6, X-28, X-29.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from maintenance_defs.core.quantities import Duration, SizeBytes, format_duration, parse_duration
from maintenance_defs.core.vocabulary import PLACEHOLDER, Declared, EnvName, Name, OneOrMore, Sql, Word, Words

FLOOR = timedelta(hours=24)  # an orphan younger than this may be an upload whose row is still to come (G07)
LEDGER_KEPT = timedelta(days=400)  # the ledger of an act; no undo window may be longer (I12)

_TIMING = re.compile(r"[a-z][a-z0-9_]{0,62}")


def _age(value: Any) -> timedelta | str:
    """An age, or the name of one among the system's presets."""
    if isinstance(value, str) and _TIMING.fullmatch(value.strip()):
        return value.strip()
    return parse_duration(value)


Age = Annotated[timedelta | str, BeforeValidator(_age)]
# What a column is set to: a value, or text with {as_of}, {column}, {generation_number}, {is_current} in it.
Value = bool | int | float | str | None


class Generations(Declared):
    """Rows that belong together, in the order they came: all rows of one `by` within one `of`."""

    of: Word  # what is superseded: a tracking id
    by: Word  # one generation: a delivery
    order: Word  # its time; the smallest of its rows counts
    tie: Word  # decides between equal times; the smallest of its rows counts
    complete_column: Word | None = None  # a generation is complete when this column …
    complete_values: tuple[Word, ...] = ()  # … has all of these values
    stored: bool = True  # … in rows whose objects exist

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.complete_column is None) != (not self.complete_values):
            raise ValueError("complete_column and complete_values belong together: file_type and [pdf, html]")
        return self


class Owned(Declared):
    """Rows of another table that go after the row which points at them, unless another row points there too."""

    table: Word
    id: Words
    by: Word  # column of the selected row that holds the other row's id


class Within(Declared):
    """Only objects of this store below this prefix."""

    store: Name
    prefix: str = ""


class Select(Declared):
    """What may go: rows by predicate, the unreferenced objects of a scope, or the orphans of the diff."""

    rows: Word | None = None
    id: Words | None = None
    where: Sql | None = None  # plain SQL of the database, may use :as_of; rows for which it is NULL stay
    columns: dict[Name, Sql] = {}  # computed for each row, for keep rules and values
    generations: Generations | None = None
    owns: Owned | None = None
    within: Within | None = None  # which of the row's objects are meant
    without_object: bool = False  # also rows that name no object at all (S1-55)
    objects: Name | None = None  # a store: its unreferenced objects, of whatever age the keep rules allow
    orphans: Name | None = None  # a store: orphans of the diff, never younger than the floor of 24 h
    prefix: str = ""
    folders: Words | None = None  # only below folders whose name fits one of these ('storage-*'), whole or not at all

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(kind is not None for kind in (self.rows, self.objects, self.orphans)) != 1:
            raise ValueError("select exactly one of rows, objects, orphans")
        if self.rows is not None:
            if self.id is None or self.where is None:
                raise ValueError("rows need id and where; without where every row is meant. Write what may go")
            if self.prefix or self.folders:
                raise ValueError("prefix and folders belong to objects and orphans; for rows write within")
            if re.fullmatch(r"\(*\s*(true|1|1\s*=\s*1)\s*\)*", self.where, re.IGNORECASE):
                raise ValueError(f"where {self.where!r} means every row. Write what may go")
        elif any((self.id, self.where, self.columns, self.generations, self.owns, self.within, self.without_object)):
            raise ValueError("id, where, columns, generations, owns, within, without_object belong to rows")
        return self

    @property
    def store(self) -> str | None:
        """The store whose objects are selected; None where rows are."""
        return self.objects or self.orphans


class KeepRule(Declared):
    """A reason to stay. Exactly one of the first six; the rest says how it is meant."""

    younger_than: Age | None = None  # strictly older ones may go; an unknown or future time stays
    newest_generations: Annotated[int, Field(ge=1, strict=True)] | None = None  # complete ones, with all that is newer
    until_counterpart_exists: Word | None = None  # 'final/{id}.wav' in `store`, not empty
    rows: Sql | None = (
        None  # one column of values; an item whose `match` is among them stays, whatever its case and padding
    )
    while_: Sql | None = Field(alias="while", default=None)  # a predicate over the row; NULL stays too
    referenced_elsewhere: Literal[True] | None = None  # what any other row names stays; always asked, also unsaid

    by: Words | None = None  # younger_than: columns, the first that is not NULL counts
    days_env: EnvName | None = None  # younger_than: a variable that overrides the age, in whole days
    unsafe_below_floor: Word | None = None  # orphans only: the reason why 24 h need not be waited for (G07)
    store: Name | None = None  # until_counterpart_exists
    match: Word | None = None  # rows: a column; the key where objects are selected
    because: str | None = None  # the reason in the plan, in your words

    @model_validator(mode="after")
    def _one_reason(self) -> Self:
        if len(self.kinds) != 1:
            raise ValueError(
                "name exactly one of younger_than, newest_generations, until_counterpart_exists, rows, while, "
                "referenced_elsewhere"
            )
        belongs = {
            "by": "younger_than", "days_env": "younger_than", "unsafe_below_floor": "younger_than",
            "store": "until_counterpart_exists", "match": "rows",
        }  # fmt: skip
        for option, kind in belongs.items():
            if getattr(self, option) and kind != self.kind:
                raise ValueError(f"{option} belongs to {kind}")
        if self.kind == "until_counterpart_exists" and self.store is None:
            raise ValueError("until_counterpart_exists needs the store: {until_counterpart_exists: …, store: audio}")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        names = ("younger_than", "newest_generations", "until_counterpart_exists", "rows", "while_")
        found = tuple(name for name in names if getattr(self, name) is not None)
        return found + (("referenced_elsewhere",) if self.referenced_elsewhere else ())

    @property
    def kind(self) -> str:
        return self.kinds[0]

    def __str__(self) -> str:
        if self.kind == "younger_than":
            age = self.younger_than
            return f"younger than {format_duration(age) if isinstance(age, timedelta) else age}"
        if self.because:
            return self.because
        newest = self.newest_generations or 1
        return {
            "newest_generations": f"the newest {newest} complete generations"
            if newest > 1
            else "the newest complete one",
            "until_counterpart_exists": f"until {self.until_counterpart_exists} exists",
            "rows": "what a query of its protectors names",
            "while_": f"as long as {self.while_}",
            "referenced_elsewhere": "what another row names",
        }[self.kind]


class Move(Declared):
    """Objects go to another store, under the same key behind `prefix`."""

    move_to: Name
    prefix: str = ""


class Act(Declared):
    """What is done: objects first, then rows; the row stays when its object did not go (C-6).

    repoint goes before the objects: the row names its other file before this one goes (X-13).
    """

    objects: Literal["quarantine", "delete"] | Move | None = None
    rows: Literal["delete"] | None = None
    set: dict[Word, Value] = {}  # columns of the row
    repoint: dict[Word, Word] = {}  # column -> key of an object that exists: 'final/{id}.wav'
    acknowledge_history_loss: bool = False  # rows and objects of older generations are gone for good (S0-25)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.objects or self.rows or self.set or self.repoint):
            raise ValueError("an act needs objects, rows, set or repoint")
        if self.rows and (self.set or self.repoint):
            raise ValueError("a row is deleted or changed, not both")
        return self

    @property
    def takes_away(self) -> bool:
        """Whether something is gone afterwards, even if it can be restored."""
        return self.objects is not None or self.rows is not None


class Limits(Declared):
    """How much one plan, and all acts of a rolling window, may take. A plan above a limit is not begun (I10)."""

    max_objects: Annotated[int, Field(ge=0, strict=True)] = 1000
    max_rows: Annotated[int, Field(ge=0, strict=True)] = 1000
    max_bytes: SizeBytes | Literal[0] = 100_000_000_000
    max_percent: float = Field(
        default=10.0, ge=0, le=100, allow_inf_nan=False
    )  # of the scope's objects, the table's rows
    small_population: int = Field(default=50, ge=0)  # below it only counts matter
    max_cascaded_rows: Annotated[int, Field(ge=0, strict=True)] = 0  # no restore brings them back (J06)
    window: Duration = timedelta(hours=24)
    max_growth: float = Field(default=10.0, ge=1, allow_inf_nan=False)  # times the usual number of items (G12)
    tenant: Word | None = None  # a column of the row, or for objects the folder of this number: '1'
    max_items_per_tenant: Annotated[int, Field(ge=1, strict=True)] | None = None

    @model_validator(mode="after")
    def _tenants(self) -> Self:
        if (self.tenant is None) != (self.max_items_per_tenant is None):
            raise ValueError("tenant and max_items_per_tenant belong together")
        return self


def _known_window(value: str) -> str:
    parse_window(value)
    return value


def parse_window(value: str) -> tuple[int, int, ZoneInfo]:
    """`02:00-05:00 Europe/Warsaw` -> (minutes of the day from, until, zone). UTC where no zone is written."""
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)(?: (\S+))?", value.strip())
    if not found:
        raise ValueError(f"{value!r} is not a window; write '02:00-05:00' or '02:00-05:00 Europe/Warsaw'")
    try:
        zone = ZoneInfo(found[5] or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{found[5]!r} is not a time zone; write one such as 'UTC' or 'Europe/Warsaw'") from None
    start, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if start == end:
        raise ValueError(f"{value!r} is empty; leave the window out to allow any time")
    return start, end, zone


class Policy(Declared):
    """One retention policy of a system."""

    describe: Word
    select: Select
    keep: tuple[KeepRule, ...] = ()
    act: Act
    limits: Limits = Limits()
    mode: Literal["manual", "automatic"] = "manual"
    observations: Annotated[int, Field(ge=1, strict=True)] = 2  # automatic, orphans: complete diffs that must agree
    enabled: bool = True
    enabled_env: EnvName | None = None  # a variable that decides: true, 1, yes / false, 0, no; unset: `enabled`
    window: Annotated[str, AfterValidator(_known_window)] | None = None  # when it may act: '02:00-05:00 Europe/Warsaw'
    approval_lasts: Duration = timedelta(hours=24)  # a plan that is older must be made again (H04)
    second_person: bool = False
    quarantine_for: Duration = timedelta(days=30)  # before a purge may take what was quarantined
    overlaps: Annotated[tuple[Name, ...], OneOrMore] = ()  # policies that may select the same items
    log: dict[Literal["begin", "objects", "objects_done", "rows_done", "end", "failed"], str] = {}  # lines of the run

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        select, act = self.select, self.act
        if not self.keep and act.takes_away:
            raise ValueError("keep: a policy without a keep rule lets everything go; name a reason to stay")
        if select.rows is None and (act.rows or act.set or act.repoint):
            raise ValueError("act: rows, set and repoint need a policy that selects rows")
        if select.rows is None and act.objects is None:
            raise ValueError("act: a policy that selects objects must say what happens to objects")
        folder = self.limits.tenant
        if select.rows is None and folder is not None and not (folder.isascii() and folder.isdecimal() and int(folder)):
            raise ValueError("limits: the tenant of an object is the number of a folder in its key: tenant: '1'")
        for number, rule in enumerate(self.keep):
            where = f"keep.{number}"
            if rule.kind == "newest_generations" and select.generations is None:
                raise ValueError(f"{where}: newest_generations needs select.generations")
            if select.rows is None and rule.kind in ("newest_generations", "until_counterpart_exists", "while_"):
                raise ValueError(f"{where}: {rule.kind.rstrip('_')} needs a policy that selects rows")
            if rule.kind == "younger_than" and (select.rows is None) != (rule.by is None):
                raise ValueError(
                    f"{where}: say by which column: {{younger_than: 30 d, by: created_at}}"
                    if select.rows is not None
                    else f"{where}: an object is as old as the store says; by belongs to rows"
                )
            if rule.kind == "rows" and (select.rows is None) != (rule.match is None):
                raise ValueError(
                    f"{where}: say which column is compared: match"
                    if select.rows is not None
                    else f"{where}: the values are keys; match belongs to rows"
                )
            if rule.unsafe_below_floor and select.orphans is None:
                raise ValueError(f"{where}: unsafe_below_floor belongs to orphans")
            self._not_below_floor(where, rule)
        if select.generations is not None and act.takes_away and act.rows and not act.acknowledge_history_loss:
            raise ValueError(
                "act: deleting superseded rows loses their history, leaves no audit trail in the database and may "
                "conflict with compliance; say acknowledge_history_loss: true, or mark them with set"
            )
        if self.quarantine_for > LEDGER_KEPT:
            raise ValueError(
                f"quarantine_for: {format_duration(self.quarantine_for)} is longer than the ledger is kept, "
                f"{format_duration(LEDGER_KEPT)}"
            )
        if self.mode == "automatic" and self.second_person:
            raise ValueError("second_person: it needs people; an automatic policy has a standing approval")
        return self

    def _not_below_floor(self, where: str, rule: KeepRule) -> None:
        age = rule.younger_than
        if self.select.orphans is None or not isinstance(age, timedelta) or age >= FLOOR or rule.unsafe_below_floor:
            return
        raise ValueError(
            f"{where}: {format_duration(age)} is below the floor of {format_duration(FLOOR)} for orphans: an upload "
            f"may precede its row. Raise it, or give the reason in unsafe_below_floor"
        )

    @property
    def group_column(self) -> str | None:
        """The column whose values are the groups that a plan may be limited to, each judged whole; None: none.

        What generations belong to; without generations every row is a group of its own, named by its id.
        """
        select = self.select
        if select.generations is not None:
            return select.generations.of
        return select.id[0] if select.id is not None and len(select.id) == 1 else None

    @property
    def timings(self) -> tuple[str, ...]:
        """Names of presets that its ages use."""
        return tuple(rule.younger_than for rule in self.keep if isinstance(rule.younger_than, str))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the row that keep rules, values and tenants need as text, in order of appearance."""
        named = [rule.match for rule in self.keep if rule.match]
        for rule in self.keep:
            named += PLACEHOLDER.findall(rule.until_counterpart_exists or "")
        for value in (*self.act.set.values(), *self.act.repoint.values()):
            named += PLACEHOLDER.findall(value) if isinstance(value, str) else []
        if self.limits.tenant and self.select.rows:
            named.append(self.limits.tenant)
        if self.select.owns:
            named.append(self.select.owns.by)
        special = ("as_of", "generation_number", "is_current")
        return tuple(dict.fromkeys(name for name in named if name not in special))

    @property
    def folder_patterns(self) -> str | None:
        """One RE2 expression for the whole names of `select.folders`; * is any text, ? any character."""
        if self.select.folders is None:
            return None
        globs = (re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".") for glob in self.select.folders)
        return "|".join(f"(?:{glob})" for glob in globs)
