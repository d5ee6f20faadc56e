"""Rows that the database takes or changes along with those of a plan, by foreign keys (J06).

No image of them is kept and no restore brings them back, so that a person agrees to how many they are: they count for
`max_cascaded_rows`, none by default, and more than the plan counted do not go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.policy import Policy, Select
from maintenance_defs.core.quantities import count
from maintenance_defs.databases.acting import ActingDatabase, open_acting_database
from maintenance_defs.databases.urls import reading_url
from maintenance_defs.retention.evidence import Evidence

ID_BATCH = 5000


def planned_cascades(system: System, policy: Policy, home: Home, evidence: Evidence) -> dict[str, int]:
    """How many rows would go or change along, by "schema.table (cascade)", "(set null)" or "(set default)".

    Rows of the policy's own tables that cascade are left out: most are rows of the plan, and the others are found when
    it is carried out, and stay.
    """
    if policy.act.rows is None:
        return {}
    database = open_acting_database(reading_url(system, home.value))
    found: dict[str, int] = {}
    for table, ids in _tables(policy.select).items():
        query = "SELECT row_id FROM steps WHERE act = 'delete_row' AND table_name = ? ORDER BY row_id"
        rows = evidence.con.execute(query, [table])
        while batch := rows.fetchmany(ID_BATCH):
            for where, number in database.cascades(table, ids, [row_id for (row_id,) in batch]).items():
                found[where] = found.get(where, 0) + number
    own = tuple(_tables(policy.select))
    return {where: number for where, number in found.items() if number and not _cascades_into(where, own)}


@dataclass
class Along:
    """What may go along in one run: of what its plan counted, whatever is left.

    The database is asked by the role that reads: the one that deletes may not see what goes along.
    """

    database: ActingDatabase
    select: Select
    left: dict[str, int]

    def refused(self, table: str, row_ids: Sequence[str]) -> dict[str, str]:
        """Why rows must stay, by row id: more would go along with them than is left. The others' share is taken."""
        if not row_ids:
            return {}
        tables = _tables(self.select)
        others = tuple(other for other in tables if other != table)  # its rows are steps, which ask for themselves
        along = {
            where: number
            for where, number in self.database.cascades(table, tables[table], row_ids).items()
            if number and not _cascades_into(where, others)
        }
        if all(number <= self.left.get(where, 0) for where, number in along.items()):
            for where, number in along.items():
                self.left[where] -= number
            return {}
        if len(row_ids) == 1:
            return {row_ids[0]: f"more would go along than the plan counted: {_words(along)}"}
        half = len(row_ids) // 2
        return self.refused(table, row_ids[:half]) | self.refused(table, row_ids[half:])


def along_of(system: System, policy: Policy, home: Home, counted: Mapping[str, int]) -> Along:
    """For one run of a plan that counted so many."""
    return Along(open_acting_database(reading_url(system, home.value)), policy.select, dict(counted))


def _tables(select: Select) -> dict[str, tuple[str, ...]]:
    """The tables whose rows a policy deletes, with the columns of their ids."""
    if select.rows is None:
        return {}
    tables = {select.rows: select.id or ()}
    return tables if select.owns is None else {**tables, select.owns.table: select.owns.id}


def _cascades_into(where: str, tables: Sequence[str]) -> bool:
    """Whether it says that rows of one of these tables go; a declared name may lack the schema."""
    name, _, action = where.lower().removesuffix(")").rpartition(" (")
    return action == "cascade" and any(name == table.lower() or name.endswith(f".{table.lower()}") for table in tables)


def _words(along: Mapping[str, int]) -> str:
    return ", ".join(f"{count(number, 'row')} of {where}" for where, number in along.items())
