"""Which rows a list of ids means, in a snapshot: exactly those, and by an index."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.databases import open_database
from maintenance_defs.databases.base import SourceDatabase
from maintenance_defs.databases.generic import GenericDatabase
from maintenance_defs.databases.row_ids import row_filter
from tests.support.postgres import connect


@dataclass
class World:
    kind: str
    database: SourceDatabase
    session: Callable[[], Any]

    def execute(self, *statements: str) -> list[Any]:
        connection = self.session()
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        rows = list(cursor.fetchall()) if cursor.description else []
        connection.close()
        return rows

    def found(self, columns: list[str], ids: list[str]) -> list[str]:
        with self.database.snapshot() as snapshot:
            table = snapshot.table("t")
            assert table is not None
            where, parameters = row_filter(snapshot, table, columns, ids)
            return sorted(snapshot.read(f"SELECT k FROM t WHERE {where}", parameters).read_all()["k"].to_pylist())


@pytest.fixture(params=["postgres", "sqlite", "generic-sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "postgres":
        url = request.getfixturevalue("pg_database")
        yield World("postgres", open_database(url), lambda: connect(url))
        return
    path = tmp_path / "application.db"
    url = f"sqlite:///{path}"
    sqlite3.connect(path).close()
    database = GenericDatabase(url) if request.param.startswith("generic") else open_database(url)
    yield World("sqlite", database, lambda: sqlite3.connect(path, isolation_level=None))


UUID = "aaaaaaaa-0000-4000-8000-00000000000"


@pytest.mark.parametrize(
    ("type_name", "rows", "asked", "expected"),
    [
        ("uuid", [UUID + "1", UUID + "2", UUID + "3"], [UUID + "1", UUID + "3", UUID.upper() + "2", "x", ""], "02"),
        ("text", ["a", "A", "it's \\ ?%s:x", "é", ""], ["a", "it's \\ ?%s:x", "é", "no"], "023"),
        ("text", ["a", "", None], [""], "12"),
        (
            "bigint",
            [1, -7, 9007199254740993],
            ["1", "007", "-7", "9007199254740993", "x", "99999999999999999999"],
            "012",
        ),
        ("varchar(20)", ["a", "b"], ["b"], "1"),
        ("numeric(5,2)", [1.25, 3.75], ["1.25", "3.750"], "0"),
        ("text", ["a"], [], ""),
        ("text", ["a"], ["\0", "a\0", "\udcff"], ""),
    ],
)
def test_rows_of_these_ids_and_no_others(
    world: World, type_name: str, rows: list[Any], asked: list[str], expected: str
) -> None:
    values = ", ".join(
        f"({'NULL' if row is None else repr(row) if not isinstance(row, str) else _literal(row)}, '{n}')"
        for n, row in enumerate(rows)
    )
    world.execute(f"CREATE TABLE t (id {type_name}, k text)", f"INSERT INTO t VALUES {values}")
    assert world.found(["id"], asked) == list(expected)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def test_rows_of_several_id_columns(world: World) -> None:
    world.execute(
        "CREATE TABLE t (a int, b text, k text)",
        "INSERT INTO t VALUES (1, 'x', '0'), (1, 'y', '1'), (2, 'x', '2'), (2, NULL, '3'), (2, '', '4')",
    )
    assert world.found(["a", "b"], ['["1","x"]', '["2",null]', '["2","y"]', "1", '["1"]']) == ["0", "3"]
    assert world.found(["a", "b"], ['["2",""]']) == ["4"]


def test_sqlite_id_of_any_storage_class_is_found(tmp_path: Path) -> None:
    path = tmp_path / "application.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE t (id TEXT COLLATE NOCASE, any, k TEXT)")
    connection.execute("INSERT INTO t VALUES ('a', 1, '0'), (x'62', '2', '1'), ('B', 2.5, '2'), (NULL, x'33', '3')")
    connection.close()
    world = World("sqlite", open_database(f"sqlite:///{path}"), lambda: sqlite3.connect(path))
    assert world.found(["id"], ["a", "b"]) == ["0", "1"]
    assert world.found(["any"], ["1", "2", "2.5", "3"]) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("type_name", ["uuid", "text", "varchar(80)", "bigint"])
@pytest.mark.parametrize("columns", [["id"], ["id", "b"]])
def test_postgres_looks_ids_up_in_the_index(pg_database: str, type_name: str, columns: list[str]) -> None:
    value = {"uuid": "md5(CAST(n AS text))", "bigint": "n"}.get(type_name, "'key ' || n")
    world = World("postgres", open_database(pg_database), lambda: connect(pg_database))
    world.execute(
        f"CREATE TABLE t (id {type_name}, b text, k text, PRIMARY KEY ({', '.join(columns)}))",
        f"INSERT INTO t SELECT CAST({value} AS {type_name}), 'b', 'k' FROM generate_series(1, 20000) n",
        "ANALYZE t",
    )
    (ids,) = world.execute("SELECT array_agg(CAST(id AS text)) FROM (SELECT id FROM t LIMIT 50) x")[0]
    wanted = ids if columns == ["id"] else [f'["{id_}","b"]' for id_ in ids]
    with world.database.snapshot() as snapshot:
        where, parameters = row_filter(snapshot, snapshot.table("t"), columns, wanted)
        cursor = world.session().cursor()
        cursor.execute(f"EXPLAIN SELECT k FROM t WHERE {where}".replace("%", "%%").replace("?", "%s"), parameters)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Seq Scan" not in plan and "t_pkey" in plan


@pytest.mark.parametrize("type_name", ["UUID", "TEXT", "INTEGER"])
@pytest.mark.parametrize("columns", [["id"], ["id", "b"]])
def test_sqlite_looks_ids_up_in_the_index(tmp_path: Path, type_name: str, columns: list[str]) -> None:
    path = tmp_path / "application.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"CREATE TABLE t (id {type_name}, b TEXT, k TEXT, PRIMARY KEY ({', '.join(columns)}))")
    with open_database(f"sqlite:///{path}").snapshot() as snapshot:
        where, parameters = row_filter(
            snapshot, snapshot.table("t"), columns, ["1", "2"] if len(columns) == 1 else ['["1","b"]']
        )
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN SELECT k FROM t WHERE {where}", parameters)]
    assert any(line.startswith("SEARCH t USING") for line in plan), plan
