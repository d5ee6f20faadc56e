"""The whole way on a real PostgreSQL: partitions, inheritance, rows that move, rights that are missing."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from maintenance_defs.core.declaration import System
from maintenance_defs.databases.postgres import PostgresSnapshot
from maintenance_defs.reconcile.orphan_diff import take_orphan_diff
from maintenance_defs.reporting.doctor_database import examine_database
from tests.support.diff_world import Diff
from tests.support.postgres import execute
from tests.support.reference_world import World

OLD = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
COLUMN = {"object": {"column": "path"}}


class Chain(World):
    """`World` on PostgreSQL, from the listing to the diff."""

    def __init__(self, path: Path, url: str) -> None:
        super().__init__(path, url)
        self.url = url

    def system(self, *references: dict[str, Any], **more: Any) -> System:
        stores = {"files": {"url_env": "FILES", "scopes": [{"prefix": "a/", "exclusive": True}]}}
        return super().system(*references, **{"stores": stores} | more)

    def sql(self, *statements: str) -> None:
        execute(self.url, *statements)

    def put(self, *keys: str, store: str = "files") -> None:
        super().put(*keys, store=store)
        for key in keys:
            os.utime(self.folder / store / key, (OLD, OLD))

    def diff(self, system: System) -> Diff:
        self.list_stores(system)
        self.take(system)
        return Diff(self.home, take_orphan_diff(system, self.home, run_id="run"))


@pytest.fixture
def chain(tmp_path: Path, pg_database: str) -> Chain:
    return Chain(tmp_path, pg_database)


PARTITIONED = (
    "CREATE TABLE log (at date, id int, path text) PARTITION BY RANGE (at)",
    "CREATE TABLE log_2024 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (id)",
    "CREATE TABLE log_2024_1 PARTITION OF log_2024 FOR VALUES IN (1)",
    "CREATE TABLE log_rest PARTITION OF log DEFAULT",
    "INSERT INTO log VALUES ('2024-05-01', 1, 'a/sub'), ('1999-01-01', 2, 'a/default')",
)
INHERITED = (
    "CREATE TABLE log (at date, id int, path text)",
    "CREATE TABLE log_child (more text) INHERITS (log)",
    "CREATE TABLE log_grandchild () INHERITS (log_child)",
    "INSERT INTO log VALUES (NULL, 1, 'a/parent')",
    "INSERT INTO log_child VALUES (NULL, 2, 'a/child')",
    "INSERT INTO log_grandchild VALUES (NULL, 3, 'a/grandchild')",
)


@pytest.mark.parametrize(
    ("tables", "keys"),
    [(PARTITIONED, ["a/default", "a/sub"]), (INHERITED, ["a/child", "a/grandchild", "a/parent"])],
    ids=["partitions", "children"],
)
def test_rows_of_every_partition_and_child_keep_their_object(
    chain: Chain, tables: tuple[str, ...], keys: list[str]
) -> None:
    chain.sql(*tables)
    chain.put(*keys, "a/orphan")
    diff = chain.diff(chain.system(COLUMN | {"table": "public.log"}))
    assert chain.keys() == keys
    assert diff.objects() == {"a/orphan": "orphan_candidate"}
    [source] = diff_sources(chain)
    assert source["rows"] == len(keys)


def diff_sources(chain: Chain) -> list[dict[str, Any]]:
    assert chain.references is not None
    sources: list[dict[str, Any]] = chain.references.evidence["sources"]
    return sources


def test_a_child_that_may_not_be_read_is_read_through_its_parent(chain: Chain) -> None:
    chain.sql(*INHERITED)
    chain.put("a/child")
    user = f"r{make_url(chain.url).database}"
    chain.sql(f"CREATE ROLE {user} LOGIN PASSWORD 'x'", f"GRANT SELECT ON log TO {user}")
    try:
        url = make_url(chain.url).set(username=user, password="x").render_as_string(hide_password=False)
        chain.home.environment = dict(chain.home.environment) | {"DB": url}
        assert chain.diff(chain.system(COLUMN | {"table": "public.log"})).objects() == {}
    finally:
        chain.sql(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


def test_a_child_with_policies_hides_no_row(chain: Chain) -> None:  # A07
    """The policies of a child do not count where it is read through its parent; those of the parent refuse."""
    user = f"r{make_url(chain.url).database}"
    chain.sql(*INHERITED, f"CREATE ROLE {user} LOGIN PASSWORD 'x'", f"GRANT SELECT ON log, log_child TO {user}")
    chain.put("a/child", "a/parent", "a/grandchild")
    try:
        url = make_url(chain.url).set(username=user, password="x").render_as_string(hide_password=False)
        chain.home.environment = dict(chain.home.environment) | {"DB": url}
        chain.sql("ALTER TABLE log_child ENABLE ROW LEVEL SECURITY")
        assert chain.diff(chain.system(COLUMN | {"table": "public.log"})).objects() == {}
        chain.sql("ALTER TABLE log ENABLE ROW LEVEL SECURITY")
        assert chain.diff(chain.system(COLUMN | {"table": "public.log"})).artefact.reason == "rls_filtered"
    finally:
        chain.sql(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


@pytest.mark.parametrize("order", [("drafts", "published"), ("published", "drafts")])
def test_a_row_that_moves_while_both_tables_are_read_keeps_its_object(  # A11
    chain: Chain, order: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the table that will be read to the one that was, from listing to diff."""
    first, second = order
    chain.sql(
        *(f"CREATE TABLE {table} (id int, path text)" for table in order),
        f"INSERT INTO {second} SELECT n, 'a/' || n FROM generate_series(1, 100) n",
    )
    chain.put(*(f"a/{n}" for n in range(1, 101)), "a/orphan")
    system = chain.system(*(COLUMN | {"table": table} for table in order))
    whole, moved = PostgresSnapshot.read, threading.Event()

    def read_then_move(self: PostgresSnapshot, sql: str, parameters: Any = ()) -> Any:
        reader = whole(self, sql, parameters)
        if f'"{second}"' in sql and not moved.is_set():  # opened, and nothing of it fetched yet
            chain.sql(f"WITH moved AS (DELETE FROM {second} RETURNING *) INSERT INTO {first} SELECT * FROM moved")
            moved.set()
        return reader

    def move_between(self: PostgresSnapshot, sql: str, parameters: Any = ()) -> Any:
        if f'"{second}"' in sql and not moved.is_set():  # the first is read, the second not begun
            chain.sql(f"WITH moved AS (DELETE FROM {second} RETURNING *) INSERT INTO {first} SELECT * FROM moved")
            moved.set()
        return whole(self, sql, parameters)

    for when in (move_between, read_then_move):
        moved.clear()
        chain.sql(
            f"TRUNCATE {first}, {second}", f"INSERT INTO {second} SELECT n, 'a/' || n FROM generate_series(1,100) n"
        )
        monkeypatch.setattr(PostgresSnapshot, "read", when)
        diff = chain.diff(system)
        assert moved.is_set()
        assert diff.objects() == {"a/orphan": "orphan_candidate"}


@pytest.mark.parametrize(
    ("granted", "declared", "named"),
    [
        (
            "id, size",
            {},
            'hides column path from this role (references.0). GRANT USAGE ON SCHEMA public, and GRANT SELECT ("path")',
        ),
        ("path, size", {}, "hides column id from this role"),
        ("id, path", {"size": "size"}, "hides column size from this role"),
        ("id, path", {"size": "bytes"}, "has no column bytes (references.0). It has id, path, size, gone."),
        ("id, path", {"releases_reference": "gone"}, "does not take `gone`"),
        ("id, path", {"in_progress": "stat = 1"}, 'column "stat" does not exist'),
    ],
)
def test_doctor_names_what_the_role_may_not_read_and_no_step_reads_without_it(
    chain: Chain, granted: str, declared: dict[str, Any], named: str
) -> None:
    user = f"r{make_url(chain.url).database}"
    chain.sql(
        "CREATE TABLE assets (id int, path text, size int, gone bool)",
        "INSERT INTO assets VALUES (1, 'a/1', 1, false)",
        f"CREATE ROLE {user} LOGIN PASSWORD 'q9-Zw'",
        f"GRANT SELECT ({granted}) ON assets TO {user}",
    )
    try:
        url = make_url(chain.url).set(username=user, password="q9-Zw").render_as_string(hide_password=False)
        chain.home.environment = dict(chain.home.environment) | {"DB": url}
        system = chain.system(COLUMN | {"table": "public.assets"} | declared)
        where = lambda path: ".".join(map(str, path))  # noqa: E731
        found = list(examine_database(system, chain.home, where=where, folder=chain.folder))
        told = [f"{finding.what} {finding.todo}" for finding in found if finding.status == "fail"]
        assert len(told) == 1 and named in told[0], told
        taken = chain.take(system)
        assert (taken.verdict, taken.reason, taken.uri) == ("refused", "source_unavailable", None)
        assert "Nothing was" in taken.evidence["message"]
        chain.sql(f"GRANT SELECT ON assets TO {user}")
        assert chain.take(chain.system(COLUMN | {"table": "public.assets"})).verdict == "complete"
    finally:
        chain.sql(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


def test_a_schema_that_the_role_may_not_enter_is_named(chain: Chain) -> None:
    user = f"r{make_url(chain.url).database}"
    chain.sql(
        "CREATE SCHEMA own",
        "CREATE TABLE own.assets (id int, path text)",
        f"CREATE ROLE {user} LOGIN PASSWORD 'q9-Zw'",
        f"GRANT SELECT ON own.assets TO {user}",
    )
    try:
        url = make_url(chain.url).set(username=user, password="q9-Zw").render_as_string(hide_password=False)
        chain.home.environment = dict(chain.home.environment) | {"DB": url}
        message = chain.take(chain.system(COLUMN | {"table": "own.assets"})).evidence["message"]
        assert "GRANT USAGE ON SCHEMA own" in message
    finally:
        chain.sql(f"DROP OWNED BY {user}", f"DROP ROLE {user}")
