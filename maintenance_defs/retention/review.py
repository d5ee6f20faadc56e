"""A person's review of a plan: its list as a file with a column for the decision, and that file read back.

`delete` goes, `keep` stays this time, `ignore` stays and is held from now on; a line without a decision stays.
A unit goes as a whole or not at all, so one line that stays keeps its unit. Only ever less than the plan is chosen.
Source: S2-22, S2-23, S1-38; H04, I9, I12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import duckdb
import pyarrow as pa
import pyarrow.csv as pa_csv

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.errors import Refused
from maintenance_defs.core.problems import did_you_mean
from maintenance_defs.reconcile.calculator import calculator, instant, literal, one, written_instant
from maintenance_defs.retention.choosing import STEPS_FILE
from maintenance_defs.retention.planning import KEPT_FILE

DECISIONS = ("keep", "delete", "ignore")
FORMATS = ("csv", "parquet", "json")
NAMED = 5  # lines that an error names

_COLUMNS = ("decision", "note", "store", "key", "table", "row_id")
_GIVEN = pa.schema([pa.field("line", pa.int64()), *(pa.field(name, pa.string()) for name in (*_COLUMNS, "item"))])


@dataclass(frozen=True)
class Ignored:
    """An object or a row that is to be held from now on, and the reviewer's note on it."""

    store: str | None
    key: str | None
    table: str | None
    row_id: str | None
    note: str | None


@dataclass(frozen=True)
class Review:
    """The units that may go, ascending, and what is to be held."""

    units: list[int]
    ignored: list[Ignored]


@contextmanager
def plan_files(home: Home, plan: PlanRow) -> Iterator[duckdb.DuckDBPyConnection]:
    """A calculator with the views `steps` and `kept` of a plan. Raises ArtefactError when they are gone."""
    artefact = home.control.get(plan.artefact_id)
    folder = home.artefacts.local(artefact.uri or "", artefact.digest)
    with TemporaryDirectory(prefix="maintain-") as spill, calculator(Path(spill)) as con:
        for view, file in (("steps", STEPS_FILE), ("kept", KEPT_FILE)):
            con.execute(f"CREATE TEMP VIEW {view} AS SELECT * FROM read_parquet({literal(folder / file)})")
        yield con


Opened = Callable[[Home, PlanRow], AbstractContextManager[duckdb.DuckDBPyConnection]]


def write_review(home: Home, plan: PlanRow, target: Path, opened: Opened = plan_files) -> int:
    """Write what the plan takes, by the file's ending: .csv, .parquet, .json; the number of lines.

    opened: gives the views `steps` and `kept` of a plan that is not a policy's.
    One line an object, with the rows that go with it in `also`; one line a row where a unit has no object. Texts of
    the CSV are quoted and never altered: import it as text, because a spreadsheet may take a key for a formula.
    The file appears whole or not at all.
    """
    format_ = target.suffix.lstrip(".").lower()
    if format_ not in FORMATS:
        raise Refused("unknown_format", f"{target.name} ends in none of .csv, .parquet, .json. Nothing was written.")
    texts = 'decision, note, act, store, key, "table", row_id, also, reason'
    options = {"csv": f"FORMAT csv, HEADER, FORCE_QUOTE ({texts})", "parquet": "FORMAT parquet", "json": "FORMAT json"}
    part = target.with_name(f".{target.name}.part")
    try:
        with opened(home, plan) as con:
            con.execute("SET preserve_insertion_order = true")
            con.execute(_listed())
            con.execute(f"COPY (SELECT * FROM listed ORDER BY ALL) TO {literal(part)} ({options[format_]})")
            lines: int = one(con, "SELECT count(*) FROM listed")[0]
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return lines


def read_review(
    home: Home, plan: PlanRow, file: Path, *, leave_out: bool = False, opened: Opened = plan_files
) -> Review:
    """The units that a file lets go.

    file: a review (a `decision` column), or a list of keys or row ids: a CSV with a column `key` or `row_id`, or
        one a line.
    leave_out: everything but these goes; of a review, everything but what is not to be deleted.
    Raises Refused: for a decision or a key that is unknown, with its row; for a unit of which some objects are
    named and others are not. Nothing is changed then.
    """
    with opened(home, plan) as con:
        reviewed = _read(con, file)
        _known_decisions(con, file)
        _match(con, plan, file)
        going = "decision = 'delete'" if reviewed else "true"
        if leave_out:
            stays = f"NOT ({going})" if reviewed else "true"
            query = f"SELECT unit FROM steps EXCEPT SELECT unit FROM matched WHERE {stays}"
        else:
            query = f"SELECT unit FROM matched GROUP BY unit HAVING bool_and({going})"
            _whole_units(con, plan, f"{query}", by_row=not reviewed)
        units = [unit for (unit,) in con.execute(f"SELECT DISTINCT unit FROM ({query}) ORDER BY unit").fetchall()]
        ignored = con.execute(
            """SELECT DISTINCT store, key, table_name, row_id, note FROM matched WHERE decision = 'ignore'
            ORDER BY ALL"""
        ).fetchall()
    return Review(units, [Ignored(*row) for row in ignored])


def oldest_units(
    home: Home, plan: PlanRow, *, limit: int | None, older_than: datetime | None, opened: Opened = plan_files
) -> list[int]:
    """Units of an emergency (S1-38), ascending: the oldest first, whose objects are all known to be older.

    Raises Refused when an age is asked for and no object has one: rows have none.
    """
    with opened(home, plan) as con:
        if older_than is not None and not one(con, "SELECT count(modified_at) FROM steps")[0]:
            raise Refused(
                "no_age", f"no object of plan {plan.id[:8]} has a known age. Nothing was done: leave --older-than out."
            )
        condition = "true"
        if older_than is not None:
            older = f"coalesce(modified_at < {instant(older_than)}, key IS NULL)"
            condition = f"count(modified_at) > 0 AND bool_and({older})"
        rows = con.execute(
            f"SELECT unit FROM steps GROUP BY unit HAVING {condition} ORDER BY max(modified_at) NULLS LAST, unit"
            + (f" LIMIT {limit:d}" if limit is not None else "")
        ).fetchall()
    return sorted(unit for (unit,) in rows)


def _listed() -> str:
    row = "CASE WHEN key IS NULL THEN act || ' ' || table_name || ' ' || row_id END"
    rows = f"string_agg({row}, '; ' ORDER BY position)"
    return f"""
        CREATE TEMP VIEW listed AS
        SELECT '' AS decision, '' AS note, unit, act, store, key, size_bytes AS size,
            {written_instant("modified_at")} AS last_modified, table_name AS "table", row_id, also, reason
        FROM steps JOIN (SELECT unit, count(key) AS objects, {rows} AS also FROM steps GROUP BY unit) USING (unit)
        WHERE key IS NOT NULL OR objects = 0"""


def _read(con: duckdb.DuckDBPyConnection, file: Path) -> bool:
    """Fill `given` (schema _GIVEN, line as a spreadsheet counts it); whether it has decisions."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            head = stream.readline().strip("\r\n")
        delimiter = ";" if ";" in head and "," not in head else ","
        names = [name.strip().strip('"').lower() for name in head.split(delimiter)]
        is_table = "key" in names or "row_id" in names
        if is_table:
            first = 2
            reading = pa_csv.ReadOptions(column_names=names, skip_rows=1)
            parsing = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        else:
            first, names = 1, ["item"]
            reading = pa_csv.ReadOptions(column_names=names)
            parsing = pa_csv.ParseOptions(delimiter="\x1f", quote_char=False, ignore_empty_lines=False)
        converting = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        with pa_csv.open_csv(file, reading, parsing, converting) as batches:
            reader = pa.RecordBatchReader.from_batches(_GIVEN, _numbered(batches, first))
            con.register("incoming", reader)
            con.execute(
                """CREATE TEMP TABLE given AS SELECT line, lower(trim(decision)) AS decision,
                nullif(trim(note), '') AS note, nullif(store, '') AS store, nullif(key, '') AS key,
                nullif("table", '') AS table_name, nullif(row_id, '') AS row_id, nullif(item, '') AS item
                FROM incoming"""
            )
            con.unregister("incoming")
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        said = str(error).splitlines()[0]
        raise Refused("unreadable_review", f"{file} could not be read: {said}. Nothing was approved.") from None
    con.execute("DELETE FROM given WHERE key IS NULL AND row_id IS NULL AND item IS NULL")
    if not one(con, "SELECT count(*) FROM given")[0]:
        raise Refused("empty_review", f"{file} names no key and no row. Nothing was approved.")
    return "decision" in names


def _numbered(batches: Iterator[pa.RecordBatch], first: int) -> Iterator[pa.RecordBatch]:
    line = first
    for batch in batches:
        rows = batch.num_rows
        have = set(batch.schema.names)
        columns = [batch.column(name) if name in have else pa.nulls(rows, pa.string()) for name in _GIVEN.names[1:]]
        yield pa.RecordBatch.from_arrays([pa.array(range(line, line + rows), pa.int64()), *columns], schema=_GIVEN)
        line += rows


def _known_decisions(con: duckdb.DuckDBPyConnection, file: Path) -> None:
    wrong = con.execute(
        f"SELECT line, decision FROM given WHERE decision <> '' AND decision NOT IN {DECISIONS} "
        f"ORDER BY line LIMIT {NAMED}"
    ).fetchall()
    if wrong:
        said = "; ".join(
            f"row {line} says {decision!r}.{did_you_mean(decision, DECISIONS)}".rstrip(".") for line, decision in wrong
        )
        raise Refused(
            "unknown_decision", f"{file.name}: {said}. Nothing was approved: write one of {', '.join(DECISIONS)}."
        )


def _match(con: duckdb.DuckDBPyConnection, plan: PlanRow, file: Path) -> None:
    """`matched`: every step that a line names, with the line."""
    con.execute(
        """
        CREATE TEMP TABLE matched AS
        SELECT g.line, g.decision, g.note, s.unit, s.store, s.key, NULL::VARCHAR AS table_name, NULL::VARCHAR AS row_id
        FROM given g JOIN steps s ON s.key = coalesce(g.key, g.item) AND (g.store IS NULL OR g.store = s.store)
        UNION ALL
        SELECT g.line, g.decision, g.note, s.unit, NULL, NULL, s.table_name, s.row_id
        FROM given g JOIN steps s ON s.key IS NULL AND s.row_id = coalesce(g.row_id, g.item)
            AND (g.table_name IS NULL OR g.table_name = s.table_name)
        WHERE g.key IS NULL
        """
    )
    unknown = con.execute(
        f"SELECT line, coalesce(key, row_id, item) FROM given WHERE line NOT IN (SELECT line FROM matched) "
        f"ORDER BY line LIMIT {NAMED}"
    ).fetchall()
    if unknown:
        _refuse("unknown_key", file, unknown, f"is not in plan {plan.id[:8]}", "choose from this plan's own list")
    several = con.execute(
        f"SELECT line, any_value(key) FROM matched WHERE key IS NOT NULL GROUP BY line "
        f"HAVING count(DISTINCT store) > 1 ORDER BY line LIMIT {NAMED}"
    ).fetchall()
    if several:
        _refuse("ambiguous_key", file, several, "is in several stores", "name it in a column 'store'")


def _whole_units(con: duckdb.DuckDBPyConnection, plan: PlanRow, chosen: str, *, by_row: bool) -> None:
    """Raises Refused when a chosen unit takes an object along that no line names."""
    implied = "AND unit NOT IN (SELECT unit FROM matched WHERE row_id IS NOT NULL)" if by_row else ""
    left = con.execute(
        f"""SELECT unit, key FROM steps WHERE key IS NOT NULL AND unit IN (SELECT unit FROM ({chosen})) {implied}
        AND (unit, store, key) NOT IN (SELECT (unit, store, key) FROM matched WHERE key IS NOT NULL)
        ORDER BY unit, key LIMIT {NAMED}"""
    ).fetchall()
    if left:
        said = ", ".join(f"{key!r}" for _, key in left)
        raise Refused(
            "part_of_a_unit",
            f"{said} would go along with what the file names, in one unit of plan {plan.id[:8]}, and is not named. "
            f"Nothing was approved: name all of a unit, or none of it.",
        )


def _refuse(reason: str, file: Path, rows: list[tuple[int, str]], what: str, advice: str) -> NoReturn:
    said = "; ".join(f"row {line}: {name!r} {what}" for line, name in rows)
    raise Refused(reason, f"{file.name}: {said}. Nothing was approved: {advice}.")
