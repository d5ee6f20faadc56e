"""The steps of a plan that are still to be done, batch by batch, and what became of each step so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.control.retention.ledger import SUCCESS
from maintenance_defs.reconcile.calculator import calculator, literal
from maintenance_defs.retention.choosing import STEPS_FILE

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNIT_STAYS = "another step of its unit was refused or failed"
FINAL = (*SUCCESS, "skipped_changed", "skipped_referenced", "skipped_held", "skipped_kept")  # not tried again


class Step(NamedTuple):
    """One line of a plan: `number` counts within its unit."""

    unit: int
    number: int
    position: int
    act: str
    store: str | None
    key: str | None
    size_bytes: int | None
    modified_at: datetime | None
    etag: str | None
    table_name: str | None
    row_id: str | None
    detail: str | None
    reason: str
    tenant: str | None

    @property
    def is_object(self) -> bool:
        return self.act in ("quarantine", "delete", "move")

    @property
    def identity(self) -> tuple[str, str | None, str | None]:
        """What it acts on and how: the same step in a fresh choice is the same."""
        if self.is_object:
            return self.act, self.store, self.key
        return self.act, self.table_name, self.row_id


_REPEATED = ("act", "store", "table_name", "detail", "reason", "tenant")
_STEP_COLUMNS = (
    "unit, (row_number() OVER (PARTITION BY unit ORDER BY position, store, key, table_name, row_id) - 1)::INTEGER "
    "AS number, position, act, store, key, size_bytes, modified_at, etag, table_name, row_id, detail, reason, tenant"
)


class Work:
    """A plan's steps and outcomes, in a calculator of their own."""

    def __init__(self, con: duckdb.DuckDBPyConnection, home: Home, plan: PlanRow, units: Sequence[int] | None) -> None:
        self._con = con
        self.may_come_back(())
        artefact = home.control.get(plan.artefact_id)
        file = home.artefacts.local(artefact.uri or "", artefact.digest) / STEPS_FILE
        con.execute(f"CREATE TEMP VIEW planned AS SELECT {_STEP_COLUMNS} FROM read_parquet({literal(file)})")
        con.execute("CREATE TEMP TABLE outcome (unit BIGINT, number INTEGER, outcome VARCHAR, detail VARCHAR)")
        con.execute("CREATE TEMP TABLE chosen (unit BIGINT)")
        if units is None:
            con.execute("INSERT INTO chosen SELECT DISTINCT unit FROM planned")
        else:
            con.register("given", pa.table({"unit": pa.array(units, pa.int64())}))
            con.execute("INSERT INTO chosen SELECT unit FROM given")
            con.unregister("given")

    def remember(self, acts: Iterator[pa.RecordBatch]) -> None:
        """Outcomes that the ledger knows already; the last one of a step counts. What they leave is to be done.

        A unit one of whose steps was skipped for good is done with. So is one of which something was given back since:
        somebody, or a row, needed it.
        """
        self._con.execute(
            "CREATE OR REPLACE TEMP TABLE known AS SELECT unit, number, outcome, detail, -1::BIGINT AS seq FROM outcome"
        )
        for batch in acts:
            self._con.register("acts", pa.Table.from_batches([batch]))
            self._con.execute(
                """
                INSERT INTO known SELECT unit, step, outcome, detail, seq FROM acts
                WHERE outcome IS NOT NULL AND act NOT IN ('restore', 'purge')
                UNION ALL
                SELECT unit, step, 'skipped_kept', 'it was given back', seq FROM acts WHERE outcome = 'restored'
                """
            )
            self._con.unregister("acts")
        self._con.execute(
            "CREATE OR REPLACE TEMP TABLE outcome AS SELECT unit, number, last.o AS outcome, last.d AS detail FROM "
            "(SELECT unit, number, arg_max({o: outcome, d: detail}, seq) AS last FROM known GROUP BY unit, number)"
        )
        final = ", ".join(literal(o) for o in FINAL)
        done = ", ".join(literal(o) for o in SUCCESS)
        self._con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE left_whole AS
            SELECT unit, number FROM planned LEFT JOIN outcome o USING (unit, number)
            WHERE (o.outcome IN ({final})) IS NOT TRUE
              AND unit IN (SELECT unit FROM outcome WHERE outcome IN ({final}) AND outcome NOT IN ({done}));
            DELETE FROM outcome WHERE (unit, number) IN (SELECT (unit, number) FROM left_whole);
            INSERT INTO outcome SELECT unit, number, 'skipped_kept', '{UNIT_STAYS}' FROM left_whole
            """
        )
        # Numbered once, not cut off by LIMIT: DuckDB 2.0.0 drops a LIMIT above a LEFT JOIN that it takes for small.
        self._con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE open AS
            SELECT unit, row_number() OVER (ORDER BY unit) AS place
            FROM planned LEFT JOIN outcome o USING (unit, number)
            WHERE unit IN (SELECT unit FROM chosen)
            GROUP BY unit HAVING bool_or((o.outcome IN ({final})) IS NOT TRUE)
            """
        )

    def note(self, outcomes: Sequence[tuple[int, int, str, str | None]]) -> None:
        """What became of steps in this run: (unit, number, outcome, detail)."""
        if not outcomes:
            return
        columns = list(zip(*outcomes, strict=True))
        table = pa.table(
            {
                "unit": pa.array(columns[0], pa.int64()), "number": pa.array(columns[1], pa.int32()),
                "outcome": pa.array(columns[2], pa.string()), "detail": pa.array(columns[3], pa.string()),
            }
        )  # fmt: skip
        self._con.register("noted", table)
        self._con.execute("DELETE FROM outcome WHERE (unit, number) IN (SELECT (unit, number) FROM noted)")
        self._con.execute("INSERT INTO outcome SELECT * FROM noted")
        self._con.unregister("noted")

    def todo(self, units: int, after: int) -> tuple[list[Step], dict[tuple[int, int], str]]:
        """Steps of the next units above `after` that have some left to do; and what their other steps came to."""
        [(first, last)] = self._con.execute(
            "SELECT min(unit), max(unit) FROM open, (SELECT count(*) AS before FROM open WHERE unit <= $after) "
            "WHERE place > before AND place <= before + $units",
            {"after": after, "units": units},
        ).fetchall()
        if first is None:
            return [], {}
        found = self._con.sql(
            f"""
            SELECT p.* REPLACE (epoch_us(modified_at) AS modified_at), o.outcome
            FROM planned p SEMI JOIN open USING (unit) LEFT JOIN outcome o USING (unit, number)
            WHERE unit BETWEEN {first:d} AND {last:d} ORDER BY unit, position, number
            """
        ).to_arrow_table()
        columns = {
            name: found[name].to_pylist() for name in ("unit", "number", "position", "key", "size_bytes", "row_id")
        }
        columns |= {name: _shared(found[name]) for name in Step._fields if name not in columns}
        columns["modified_at"] = [
            None if at is None else EPOCH + timedelta(microseconds=at) for at in columns["modified_at"]
        ]
        steps = list(map(Step._make, zip(*(columns[name] for name in Step._fields), strict=True)))
        known = {
            (step.unit, step.number): outcome
            for step, outcome in zip(steps, _shared(found["outcome"]), strict=True)
            if outcome is not None
        }
        return steps, known

    def counts(self) -> dict[str, int]:
        """Outcome -> steps; steps that nobody came to are 'not_reached'."""
        rows = self._con.execute(
            "SELECT coalesce(o.outcome, 'not_reached') AS o, count(*) FROM planned p SEMI JOIN chosen USING (unit) "
            "LEFT JOIN outcome o USING (unit, number) GROUP BY 1 ORDER BY 1"
        ).fetchall()
        return dict(rows)

    def counts_by_kind(self) -> dict[str, dict[str, int]]:
        """'object' or table -> outcome -> steps."""
        found: dict[str, dict[str, int]] = {}
        for kind, outcome, count in self._con.execute(
            "SELECT coalesce(table_name, 'object'), coalesce(o.outcome, 'not_reached'), count(*) FROM planned p "
            "SEMI JOIN chosen USING (unit) LEFT JOIN outcome o USING (unit, number) GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall():
            found.setdefault(kind, {})[outcome] = count
        return found

    def problems(self, limit: int) -> list[dict[str, Any]]:
        """Steps that did not do what was planned, a sample."""
        cursor = self._con.execute(
            f"""
            SELECT unit, act, store, key, table_name, row_id, o.outcome, o.detail
            FROM planned JOIN outcome o USING (unit, number)
            WHERE o.outcome NOT IN ({", ".join(literal(o) for o in SUCCESS)}) ORDER BY unit, number LIMIT {limit}
            """
        )
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def deleted_from(self) -> list[str]:
        """The stores in which something was deleted: where they keep versions, it can come back."""
        query = "SELECT DISTINCT store FROM planned JOIN outcome o USING (unit, number) WHERE o.outcome = 'deleted'"
        return [store for (store,) in self._con.execute(query).fetchall() if store is not None]

    def may_come_back(self, stores: Sequence[str]) -> None:
        """What was deleted from these stores counts as put away: they keep versions."""
        self._away = _AWAY.format(versioned=", ".join(map(literal, stores)) or "NULL")

    def put_away(self) -> list[str]:
        """The stores from which something was put away so that it can come back, now or in an earlier attempt."""
        query = f"SELECT DISTINCT store FROM ({self._away}) ORDER BY store"
        return [store for (store,) in self._con.execute(query).fetchall()]

    def write_put_away(self, store: str, path: Path) -> Path:
        """What was quarantined from a store, as it was planned (schema INVENTORY, in key order)."""
        self._con.execute(
            f"COPY (SELECT key, size_bytes, modified_at, etag, NULL::VARCHAR AS mark FROM ({self._away}) "
            f"WHERE store = {literal(store)} ORDER BY key) TO {literal(path)} (FORMAT parquet)"
        )
        return path

    def rows_put_away(self) -> pa.Table:
        """row_id: of the rows that were set to say that their object is away."""
        return self._con.sql(
            "SELECT DISTINCT row_id FROM planned JOIN outcome o USING (unit, number) "
            "WHERE act = 'set' AND o.outcome = 'set' AND row_id IS NOT NULL"
        ).to_arrow_table()

    def place_of(self, store: str, key: str) -> tuple[int, int]:
        """Unit and number of the step that puts this object away."""
        query = f"SELECT unit, number FROM ({self._away}) WHERE store = ? AND key = ?"
        unit, number = self._con.execute(query, [store, key]).fetchall()[0]
        return unit, number

    def write(self, path: Path) -> None:
        """Every step with its outcome, as Parquet."""
        self._con.execute(
            f"COPY (SELECT p.*, o.outcome, o.detail AS outcome_detail FROM planned p SEMI JOIN chosen USING (unit) "
            f"LEFT JOIN outcome o USING (unit, number) ORDER BY unit, number) TO {literal(path)} "
            "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
        )


def _shared(column: pa.ChunkedArray) -> list[Any]:
    """Equal values as one object."""
    coded = column.combine_chunks().dictionary_encode()
    values = [*coded.dictionary.to_pylist(), None]
    return [values[place] for place in coded.indices.fill_null(len(values) - 1).to_pylist()]


_AWAY = """
SELECT p.* FROM planned p JOIN outcome o USING (unit, number)
WHERE (o.outcome = 'quarantined' OR o.outcome = 'deleted' AND p.store IN ({versioned}))
  AND p.key IS NOT NULL AND p.size_bytes IS NOT NULL
"""


@contextmanager
def open_work(home: Home, plan: PlanRow, units: Sequence[int] | None) -> Iterator[Work]:
    """The work of a plan; its tables spill beside the artefacts."""
    with TemporaryDirectory() as spool, calculator(Path(spool)) as con:
        yield Work(con, home, plan, units)
