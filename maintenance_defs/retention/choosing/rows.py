"""Choosing rows: the policy's own, what they name, what they own, and what still needs any of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pyarrow as pa

from maintenance_defs.core.errors import Refused
from maintenance_defs.core.policy import Move, Value
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.core.vocabulary import PLACEHOLDER
from maintenance_defs.reconcile.calculator import literal
from maintenance_defs.reconcile.reading.rows import column_of, from_table
from maintenance_defs.retention.choosing.base import OBJECT, OWNED, REPOINT, ROW, Choice, act_name, held_keys
from maintenance_defs.retention.choosing.judging import find_row_objects, find_unreadable, start_verdicts
from maintenance_defs.retention.choosing.keeping import column, filled, keep_rows
from maintenance_defs.retention.choosing.selected import ages, lacking_columns, read_protecting, read_selected

MAX_ROUNDS = 20  # of holding rows because of rows that are held; more means a chain nobody wants decided by itself


class RowChoice(Choice):
    """A policy that selects rows."""

    def run(self) -> None:
        """Fill `steps` and `kept`."""
        evidence, policy, con = self.evidence, self.policy, self.evidence.con
        select = policy.select
        table = select.rows or ""
        found = read_selected(evidence, policy, self.as_of, self.only)
        self.lacking = [f"{found}.{name}" for name in lacking_columns(evidence.snapshot, found, policy)]
        for number, rule in enumerate(policy.keep):
            if rule.kind == "rows":
                read_protecting(evidence, number, rule, self.as_of)
        find_row_objects(evidence, table, "(SELECT DISTINCT row_id FROM selected)", "own_objects")
        con.execute("CREATE OR REPLACE TEMP TABLE owned (row_id VARCHAR, owned_id VARCHAR)")
        con.execute(
            "CREATE OR REPLACE TEMP TABLE owned_objects (row_id VARCHAR, number INTEGER, store VARCHAR, key VARCHAR)"
        )
        if select.owns is not None:
            self._find_owned()
        self._find_facts()
        keep_rows(con, policy, self.as_of, ages(policy, self.timings))
        self._keep_held_rows()
        self._keep_unreadable(table)
        self._keep_unchanged()
        con.execute(
            "CREATE OR REPLACE TEMP TABLE expired AS SELECT * FROM selected "
            "WHERE chosen AND row_id NOT IN (SELECT item FROM kept)"
        )
        start_verdicts(evidence, table)
        if policy.act.objects is not None:
            self._judge_row_objects()
        else:
            con.execute(
                "CREATE OR REPLACE TEMP TABLE going_objects (row_id VARCHAR, store VARCHAR, key VARCHAR, owned BOOLEAN)"
            )
        self._write_row_steps()
        if select.generations is not None:
            self._flag_incomplete()

    def _find_owned(self) -> None:
        """`owned`: the rows of the other table that no other row of the selected table points to."""
        owns = self.policy.select.owns
        if owns is None or self.policy.select.rows is None:
            return
        con, by = self.evidence.con, column(self.policy, owns.by)
        con.execute(f"INSERT INTO owned SELECT row_id, {by} FROM selected WHERE {by} IS NOT NULL")
        find_row_objects(self.evidence, owns.table, "(SELECT DISTINCT owned_id AS row_id FROM owned)", "owned_objects")
        snapshot = self.evidence.snapshot
        table = snapshot.table(self.policy.select.rows)
        if table is None:
            raise Refused("source_unavailable", f"the table {self.policy.select.rows} is gone. Nothing was changed.")
        pointing = column_of(table, owns.by, snapshot)
        text = snapshot.as_text(snapshot.quote(pointing), table.columns[pointing])
        con.execute("CREATE OR REPLACE TEMP TABLE pointers (owned_id VARCHAR, rows BIGINT)")
        sql = (
            f"SELECT {text} AS v, count(*) AS n FROM {from_table(snapshot, table)} WHERE {text} IS NOT NULL GROUP BY 1"
        )
        for batch in snapshot.read(sql):
            con.register("batch", pa.Table.from_batches([batch]))
            con.execute("INSERT INTO pointers SELECT v::VARCHAR, n FROM batch SEMI JOIN owned ON owned_id = v::VARCHAR")
            con.unregister("batch")

    def _find_facts(self) -> None:
        """`facts` (store and INVENTORY's columns) of every object that matters, `counterparts`, `stored_rows`."""
        con, policy = self.evidence.con, self.policy
        wanted = ["SELECT store, key FROM own_objects", "SELECT store, key FROM owned_objects"]
        counterparts = []
        for rule in policy.keep:
            if rule.kind == "until_counterpart_exists":
                key = filled(policy, rule.until_counterpart_exists or "")
                counterparts.append(f"SELECT {literal(rule.store)} AS store, {key} AS key FROM selected WHERE chosen")
        for template in policy.act.repoint.values():
            store = self._repoint_store()
            counterparts.append(f"SELECT {literal(store)} AS store, {filled(policy, template)} AS key FROM selected")
        con.execute(
            "CREATE OR REPLACE TEMP TABLE wanted AS SELECT DISTINCT store, key FROM ("
            + " UNION ALL ".join([*wanted, *counterparts])
            + ") WHERE key IS NOT NULL"
        )
        self.look_at("wanted")
        con.execute("CREATE OR REPLACE TEMP VIEW counterparts AS SELECT key FROM facts WHERE size_bytes > 0")
        con.execute(
            "CREATE OR REPLACE TEMP VIEW stored_rows AS "
            "SELECT DISTINCT row_id FROM own_objects SEMI JOIN facts USING (store, key)"
        )

    def _repoint_store(self) -> str:
        """The store in which a repointed row's other object must exist."""
        within = self.policy.select.within
        return within.store if within else next(iter(self.listings))

    def _keep_held_rows(self) -> None:
        """Legal and manual holds on rows, or on what they name (K11)."""
        con, table = self.evidence.con, self.policy.select.rows
        owned_table = self.policy.select.owns.table if self.policy.select.owns else None
        for hold in self.holds:
            reason = literal(f"held by {hold.actor}: {hold.reason}")
            if hold.table is not None or hold.row_id is not None:
                meant = [_is_held(hold, "row_id")] if hold.is_on(table) else []
                if owned_table is not None and hold.is_on(owned_table):
                    meant.append(f"row_id IN (SELECT row_id FROM owned WHERE {_is_held(hold, 'owned_id')})")
                condition = f"({' OR '.join(meant) or 'false'})"
            elif hold.store is not None or hold.key is not None or hold.prefix is not None:
                named = held_keys(hold)
                condition = (
                    f"row_id IN (SELECT row_id FROM own_objects WHERE {named} UNION ALL SELECT o.row_id FROM owned o "
                    f"JOIN owned_objects x ON x.row_id = o.owned_id WHERE {named})"
                )
            else:
                condition = "true"
            con.execute(f"INSERT INTO kept SELECT row_id, 'hold', {reason} FROM selected WHERE chosen AND {condition}")

    def _keep_unreadable(self, table: str) -> None:
        """Rows of which it is not known what they name stay, when their objects are to go (S1-9, X-34)."""
        if self.policy.act.objects is None:
            return
        con = self.evidence.con
        find_unreadable(self.evidence, table, "(SELECT DISTINCT row_id FROM selected WHERE chosen)")
        con.execute(
            "INSERT INTO kept SELECT row_id, CASE kind WHEN 'external' THEN 'external_url' ELSE 'unparseable_url' END, "
            "reason FROM unreadable"
        )
        if self.policy.select.owns is None and not self.policy.select.without_object:
            con.execute(
                "INSERT INTO kept SELECT row_id, 'null_url', 'the row names no object' FROM selected WHERE chosen "
                "AND row_id NOT IN (SELECT row_id FROM own_objects) AND row_id NOT IN (SELECT row_id FROM unreadable)"
            )

    def _keep_unchanged(self) -> None:
        """Rows that have the values already; an instant alone is no reason to write again (A0-4)."""
        values = self.policy.act.set
        lasting = {name: value for name, value in values.items() if value != "{as_of}"}
        if self.policy.act.objects is not None or not lasting:
            return
        same = " AND ".join(
            f"s{list(values).index(name)} IS NOT DISTINCT FROM {as_text(self._value(value))}"
            if not isinstance(value, bool) and value != "{is_current}"
            else f"lower(s{list(values).index(name)}) IN ('1', 't', 'true') = ({self._value(value)})"
            for name, value in lasting.items()
        )
        joined = self._with_generations()
        self.evidence.con.execute(
            f"INSERT INTO kept SELECT row_id, 'unchanged', 'it says so already' FROM {joined} WHERE chosen AND ({same})"
        )

    def _with_generations(self) -> str:
        if self.policy.select.generations is None:
            return "selected"
        return "(SELECT * FROM selected LEFT JOIN generations USING (g_of, g_by))"

    def _value(self, value: Value) -> str:
        """SQL of what a column is set to."""
        if value is None:
            return "NULL"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int | float):
            return repr(value)
        special = {
            "{as_of}": literal(format_instant(self.as_of)),
            "{generation_number}": "number",
            "{is_current}": "is_current",
        }
        return special.get(value) or (filled(self.policy, value) if PLACEHOLDER.search(value) else literal(value))

    def _judge_row_objects(self) -> None:
        """Hold rows whose objects something else needs, until no more are; `going_objects` is what then may go."""
        con = self.evidence.con
        within = self.policy.select.within
        inside = f"store = {literal(within.store)} AND starts_with(key, {literal(within.prefix)})" if within else "true"
        own = self.policy.select.rows or ""
        owns = self.policy.select.owns
        for _ in range(MAX_ROUNDS):
            # An owned row goes only when every row that points to it goes (S3-35).
            con.execute(
                """
                CREATE OR REPLACE TEMP TABLE owned_going AS
                SELECT o.owned_id, max(o.row_id) AS row_id
                FROM owned o SEMI JOIN expired USING (row_id)
                GROUP BY o.owned_id
                HAVING count(DISTINCT o.row_id) = (SELECT any_value(rows) FROM pointers p WHERE p.owned_id = o.owned_id)
                """
                if owns
                else "CREATE OR REPLACE TEMP TABLE owned_going AS SELECT owned_id, row_id FROM owned WHERE false"
            )
            con.execute("DELETE FROM going")
            con.execute("INSERT INTO going SELECT ?, row_id FROM expired", [own])
            if owns:
                con.execute("INSERT INTO going SELECT ?, owned_id FROM owned_going", [owns.table])
            con.execute(
                f"""
                CREATE OR REPLACE TEMP TABLE meant AS
                SELECT DISTINCT row_id, store, key, false AS owned FROM own_objects SEMI JOIN expired USING (row_id)
                WHERE {inside}
                UNION ALL
                SELECT DISTINCT g.row_id, x.store, x.key, true FROM owned_objects x
                JOIN owned_going g ON g.owned_id = x.row_id WHERE {inside}
                """
            )
            for (store,) in con.execute("SELECT DISTINCT store FROM meant ORDER BY store").fetchall():
                self.judge(
                    store,
                    f"SELECT * FROM facts WHERE store = {literal(store)} AND key IN "
                    f"(SELECT key FROM meant WHERE store = {literal(store)})",
                    timedelta(0),
                )
            held = con.execute(
                """
                INSERT INTO kept
                SELECT m.row_id, 'referenced_elsewhere', min(m.store || ' ' || m.key || ': ' || v.reason)
                FROM meant m JOIN verdicts v USING (store, key)
                WHERE v.item <> 'orphan_candidate' AND NOT v.only_siblings AND m.row_id IN (SELECT row_id FROM expired)
                GROUP BY m.row_id
                """
            ).fetchone()
            if not held or not held[0]:
                break
            con.execute("DELETE FROM expired WHERE row_id IN (SELECT item FROM kept)")
        else:
            raise Refused(
                "too_entangled",
                f"rows of {own} share objects in a chain of more than {MAX_ROUNDS}. Nothing was changed: look at them.",
            )
        # The object of several rows goes with the last of them; absent ones are named so that it is recorded.
        con.execute(
            """
            CREATE OR REPLACE TEMP TABLE going_objects AS
            SELECT max(m.row_id) AS row_id, m.store, m.key, bool_or(m.owned) AS owned
            FROM meant m SEMI JOIN expired USING (row_id) JOIN verdicts v USING (store, key)
            WHERE v.item = 'orphan_candidate'
            GROUP BY m.store, m.key
            UNION ALL
            SELECT max(m.row_id), m.store, m.key, bool_or(m.owned)
            FROM meant m SEMI JOIN expired USING (row_id)
            WHERE m.row_id NOT IN (SELECT x.row_id FROM meant x SEMI JOIN facts USING (store, key))
            GROUP BY m.store, m.key
            """
        )

    def _write_row_steps(self) -> None:
        con, policy = self.evidence.con, self.policy
        act, select = policy.act, policy.select
        table = literal(select.rows)
        why = literal(policy.describe)
        tenant = column(policy, policy.limits.tenant) if policy.limits.tenant else "NULL::VARCHAR"
        joined = self._with_generations().replace("selected", "expired")
        nothing = "NULL::VARCHAR AS store, NULL::VARCHAR AS key"
        parts = [
            f"SELECT g.row_id, {OBJECT} AS position, {literal(act_name(act.objects))} AS act, g.store, g.key, "
            f"f.size_bytes, f.modified_at, f.etag, NULL::VARCHAR AS table_name, g.row_id AS of_row, "
            f"{literal(json.dumps(act.objects.model_dump()) if isinstance(act.objects, Move) else None)} AS detail "
            f"FROM going_objects g LEFT JOIN facts f USING (store, key)"
        ]
        no_facts = "NULL::BIGINT, NULL::TIMESTAMPTZ, NULL::VARCHAR"
        if act.repoint:
            detail = self._json_object(act.repoint)
            parts.append(
                f"SELECT row_id, {REPOINT}, 'set', {nothing}, {no_facts}, {table}, row_id, {detail} FROM {joined}"
            )
        if act.rows or act.set:
            detail = self._json_object(act.set) if act.set else "NULL"
            what = "delete_row" if act.rows else "set"
            parts.append(
                f"SELECT row_id, {ROW}, '{what}', {nothing}, {no_facts}, {table}, row_id, {detail} FROM {joined}"
            )
        if select.owns is not None and act.rows:
            parts.append(
                f"SELECT row_id, {OWNED}, 'delete_row', {nothing}, {no_facts}, {literal(select.owns.table)}, owned_id, "
                f"NULL FROM owned_going SEMI JOIN expired USING (row_id)"
            )
        con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE steps AS
            SELECT (dense_rank() OVER (ORDER BY coalesce(first_key, ''), p.row_id) - 1)::BIGINT AS unit,
                position::INTEGER AS position, act, store, key, size_bytes, modified_at, etag, table_name,
                of_row AS row_id, detail, {why} AS reason, e.tenant
            FROM ({" UNION ALL ".join(parts)}) p
            JOIN (SELECT row_id, {tenant} AS tenant FROM expired) e ON e.row_id = p.row_id
            LEFT JOIN (SELECT row_id, min(store || ' ' || key) AS first_key FROM going_objects GROUP BY row_id) f
                ON f.row_id = p.row_id
            """
        )

    def _json_object(self, values: Mapping[str, Value]) -> str:
        pairs = ", ".join(f"{literal(name)}, {self._value(value)}" for name, value in values.items())
        return f"CAST(json_object({pairs}) AS VARCHAR)"

    def _flag_incomplete(self) -> None:
        found = self.evidence.con.execute(
            "SELECT g_of, g_by, lacks FROM generations WHERE is_newest AND NOT complete ORDER BY g_of LIMIT 20"
        ).fetchall()
        self.flags += [f"{of}: newest delivery {by} incomplete: {lacks}" for of, by, lacks in found]


def _is_held(hold: Any, id: str) -> str:
    return "true" if hold.row_id is None else f"{id} = {literal(hold.row_id)}"


def as_text(sql: str) -> str:
    return f"CAST({sql} AS VARCHAR)"
