"""The steps of a plan that are still to be done, batch by batch, and what became of each step so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.control.retention.ledger import SUCCESS
from maintenance_defs.reconcile.calculator import calculator, literal
from maintenance_defs.retention.planning import STEPS_FILE

FINAL = (*SUCCESS, "skipped_changed", "skipped_referenced", "skipped_held", "skipped_kept")  # not tried again


@dataclass(frozen=True)
class Step:
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
        """Outcomes that the ledger knows already; the last one of a step counts."""
        for batch in acts:
            self._con.register("acts", pa.Table.from_batches([batch]))
            self._con.execute(
                "INSERT INTO outcome SELECT unit, step, outcome, detail FROM acts "
                "WHERE outcome IS NOT NULL AND act NOT IN ('restore', 'purge') ORDER BY seq"
            )
            self._con.unregister("acts")
        self._con.execute(
            "CREATE OR REPLACE TEMP TABLE outcome AS "
            "SELECT unit, number, last(outcome) AS outcome, last(detail) AS detail FROM outcome GROUP BY unit, number"
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
        """Steps of the next units above `after` that have some left to do; and what their other steps came to.

        A unit one of whose steps was skipped for good, is done with.
        """
        final = ", ".join(literal(o) for o in FINAL)
        done = ", ".join(literal(o) for o in SUCCESS)
        rows = self._con.execute(
            f"""
            WITH open AS (
                SELECT unit FROM planned LEFT JOIN outcome o USING (unit, number)
                WHERE unit > ? AND unit IN (SELECT unit FROM chosen)
                GROUP BY unit
                HAVING bool_or((o.outcome IN ({final})) IS NOT TRUE)
                   AND NOT coalesce(bool_or(o.outcome IN ({final}) AND o.outcome NOT IN ({done})), false)
                ORDER BY unit LIMIT ?
            )
            SELECT p.*, o.outcome FROM planned p SEMI JOIN open USING (unit)
            LEFT JOIN outcome o USING (unit, number) ORDER BY unit, position, number
            """,
            [after, units],
        ).fetchall()
        steps = [Step(*row[:-1]) for row in rows]
        known = {(row[0], row[1]): row[-1] for row in rows if row[-1] is not None}
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
