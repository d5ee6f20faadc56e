"""Choosing objects: what nothing names in a scope, or the orphans of the diff."""

from __future__ import annotations

import json
from datetime import timedelta

import pyarrow as pa

from maintenance_defs.core.errors import Refused
from maintenance_defs.core.policy import FLOOR, Move
from maintenance_defs.reconcile.calculator import literal
from maintenance_defs.retention.choosing.base import OBJECT, Choice, act_name, held_keys
from maintenance_defs.retention.choosing.judging import start_verdicts
from maintenance_defs.retention.choosing.keeping import keep_folders, keep_objects
from maintenance_defs.retention.choosing.selected import ages, read_protecting


class ObjectChoice(Choice):
    """A policy that selects objects."""

    def run(self) -> None:
        """Fill `steps` and `kept`."""
        con, policy = self.evidence.con, self.policy
        store = policy.select.store or ""
        listing = self.listings.get(store)
        if listing is None:
            raise Refused(
                "not_listed", f"store '{store}' has no complete inventory. Nothing was changed: take its inventory."
            )
        folder = None
        if policy.folder_patterns is not None:
            folder = f"string_split(substr(key, {len(policy.select.prefix) + 1}), '/')[1]"
        con.execute("CREATE OR REPLACE TEMP TABLE wanted (store VARCHAR, key VARCHAR)")
        if self.only_keys is not None:
            con.register("given", pa.table({"key": pa.array(self.only_keys, pa.string())}))
            con.execute("INSERT INTO wanted SELECT ?, key FROM given", [store])
            con.unregister("given")
            self.look_at("wanted")
            if folder is not None:
                self._look_at_rest(store, folder)
            candidates = f"SELECT * FROM facts WHERE store = {literal(store)}"
        else:
            candidates = f"SELECT {literal(store)} AS store, * FROM read_parquet({literal(listing.inventory)})"
        con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE candidates_facts AS
            SELECT * FROM ({candidates}) WHERE starts_with(key, {literal(policy.select.prefix)})
            {f"AND regexp_full_match({folder}, {literal(policy.folder_patterns)})" if folder else ""}
            """
        )
        start_verdicts(self.evidence, None)
        self.judge(store, "SELECT * FROM candidates_facts", self._in_flight(store))
        for number, rule in enumerate(policy.keep):
            if rule.kind == "rows":
                read_protecting(self.evidence, number, rule, self.as_of)
        keep_objects(con, policy, self.as_of, ages(policy, self.timings))
        self._keep_held_objects(store)
        self._keep_rarely_observed()
        if folder is not None:
            keep_folders(con, folder)
        tenant = "NULL::VARCHAR"
        if policy.limits.tenant is not None:
            tenant = f"string_split(key, '/')[{int(policy.limits.tenant)}]"
        detail = literal(json.dumps(policy.act.objects.model_dump()) if isinstance(policy.act.objects, Move) else None)
        con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE steps AS
            SELECT (row_number() OVER (ORDER BY key) - 1)::BIGINT AS unit, {OBJECT}::INTEGER AS position,
                {literal(act_name(policy.act.objects))} AS act, {literal(store)} AS store, key,
                size_bytes, modified_at, etag, NULL::VARCHAR AS table_name, NULL::VARCHAR AS row_id,
                {detail} AS detail, v.reason, {tenant} AS tenant
            FROM candidates_facts JOIN verdicts v USING (key)
            WHERE v.item = 'orphan_candidate' AND key NOT IN (SELECT item FROM kept)
            """
        )

    def _look_at_rest(self, store: str, folder: str) -> None:
        """Add to `facts` what else is in the folders of `wanted` by now: one that is used again stays whole."""
        con = self.evidence.con
        con.execute(f"CREATE OR REPLACE TEMP TABLE wanted_folders AS SELECT DISTINCT {folder} AS name FROM wanted")
        ((first, last),) = con.execute("SELECT min(name), max(name) FROM wanted_folders").fetchall()
        if self.look is None or first is None:
            return
        start = self.policy.select.prefix
        for batch in self.look.listed(store, start + first + "/", start + last + "0"):  # '0' comes after '/'
            con.register("listed", pa.Table.from_batches([batch]))
            con.execute(
                f"INSERT INTO facts BY NAME SELECT {literal(store)} AS store, * FROM listed "
                f"WHERE starts_with(key, {literal(start)}) AND {folder} IN (FROM wanted_folders) "
                f"AND key NOT IN (SELECT key FROM facts)"
            )
            con.unregister("listed")

    def _in_flight(self, store: str) -> timedelta:
        """How long an upload may precede its row: never less than the floor, where orphans are acted on (G07)."""
        policy = self.policy
        if policy.select.orphans is not None:
            unsafe = any(rule.unsafe_below_floor for rule in policy.keep)
            usual = self.evidence.system.stores[store].in_flight
            return usual if unsafe else max(usual, FLOOR)
        referenced = store in self.evidence.system.referenced_stores
        return self.evidence.system.stores[store].in_flight if referenced else timedelta(0)

    def _keep_held_objects(self, store: str) -> None:
        for hold in self.holds:
            on_rows = hold.table is not None or hold.row_id is not None
            if on_rows or (hold.store is not None and hold.store != store):
                continue
            self.evidence.con.execute(
                f"INSERT INTO kept SELECT key, 'hold', {literal(f'held by {hold.actor}: {hold.reason}')} "
                f"FROM going_candidates WHERE {held_keys(hold)}"
            )

    def _keep_rarely_observed(self) -> None:
        """Nothing goes by itself that one look alone called an orphan (B13)."""
        if self.observed is None or self.only_keys is not None:
            return
        con, wanted = self.evidence.con, self.policy.observations
        con.register("observed", self.observed)
        con.execute(
            f"""
            INSERT INTO kept
            SELECT key, 'observations', 'seen without a row in ' || coalesce(observations, 0)
                || ' of {wanted} complete reconciliations that must agree'
            FROM going_candidates LEFT JOIN observed USING (key) WHERE coalesce(observations, 0) < {wanted}
            """
        )
        con.unregister("observed")
