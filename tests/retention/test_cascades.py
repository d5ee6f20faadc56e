"""J06: no restore brings back what foreign keys take along, so that no more goes than was counted and agreed to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.control.retention.consent import ConsentRefused
from maintenance_defs.core.policy import Select
from maintenance_defs.databases.acting import open_acting_database
from maintenance_defs.retention.cascading import Along
from tests.retention.small_world import ALL, SmallWorld
from tests.support.postgres import execute

GONE = {"rows": "docs", "id": "id", "where": "gone = 1"}
DOCS = (
    "CREATE TABLE docs (id INTEGER PRIMARY KEY, key TEXT, gone INTEGER, "
    "above INTEGER REFERENCES docs (id) ON DELETE {})"
)
PAGES = "CREATE TABLE pages (id INTEGER PRIMARY KEY, doc INTEGER REFERENCES docs (id) ON DELETE {})"
FIVE = "INSERT INTO docs (id, key, gone) SELECT value, 'docs/' || value, value < 5 FROM json_each('[1, 2, 3, 4, 5]')"


def made(path: Path, action: str = "CASCADE", *, limits: dict[str, Any] | None = None) -> SmallWorld:
    policy = {"select": GONE, "keep": [{"while": "id = 0"}], "act": {"objects": "delete", "rows": "delete"}}
    world = SmallWorld(path, policies={"gone": policy | {"limits": ALL | (limits or {})}})
    world.sql(DOCS.format(action), PAGES.format(action), FIVE)
    world.put(*(f"docs/{n}" for n in range(1, 6)))
    return world


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
def test_what_no_restore_brings_back_is_accepted_by_a_person_or_declared(tmp_path: Path, action: str) -> None:
    world = made(tmp_path / "w", action)
    world.sql("INSERT INTO pages (doc) VALUES (1), (1), (2)")
    plan = world.plan("gone")
    assert plan.totals["cascades"] == {f"pages ({action.lower()})": 3}
    (exceeded,) = plan.totals["limits_exceeded"]
    assert exceeded.startswith("3 rows deleted or changed by foreign keys, which no restore brings back (limit 0)")
    with pytest.raises(ConsentRefused, match="3 rows deleted or changed"):
        world.execute(plan)
    declared = made(tmp_path / "declared", action, limits={"max_cascaded_rows": 3})
    declared.sql("INSERT INTO pages (doc) VALUES (1), (1), (2)")
    assert declared.execute(declared.plan("gone")).state == "done"
    assert declared.objects() == ["docs/5"]


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
def test_a_row_that_would_take_along_what_nobody_counted_stays_with_its_file(tmp_path: Path, action: str) -> None:
    """Somebody writes pages of documents 2 and 4 while the plan waits for its approval."""
    world = made(tmp_path, action)
    plan = world.plan("gone")
    world.sql("INSERT INTO pages (doc) VALUES (2), (4), (4)")
    done = world.execute(plan)
    assert world.objects() == ["docs/2", "docs/4", "docs/5"]
    assert world.sql("SELECT id FROM docs ORDER BY id") == [(2,), (4,), (5,)]
    assert world.sql("SELECT doc FROM pages ORDER BY id") == [(2,), (4,), (4,)]
    assert done.by_kind["docs"] == {"deleted": 2, "skipped_referenced": 2}
    assert done.state == "done"


def test_a_row_that_stays_for_two_reasons_is_told_once(tmp_path: Path) -> None:
    world = made(tmp_path)
    world.sql("CREATE TABLE invoices (doc INTEGER REFERENCES docs (id))")
    plan = world.plan("gone")
    world.sql("INSERT INTO pages (doc) VALUES (2)")
    world.sql("INSERT INTO invoices VALUES (2)")
    done = world.execute(plan)
    assert done.by_kind == {
        "object": {"deleted": 3, "skipped_kept": 1},
        "docs": {"deleted": 3, "skipped_referenced": 1},
    }


def test_no_more_goes_along_than_was_counted(tmp_path: Path) -> None:
    world = made(tmp_path, limits={"max_cascaded_rows": 3})
    world.sql("INSERT INTO pages (doc) VALUES (1), (3), (3)")
    plan = world.plan("gone")
    world.sql("INSERT INTO pages (doc) VALUES (2), (4), (4)")
    world.execute(plan)
    ((stay,),) = world.sql("SELECT count(*) FROM pages")
    assert 3 <= stay < 6
    (counted,) = world.plan("gone").totals["cascades"].values()
    assert counted == stay


def nested(world: SmallWorld) -> None:
    world.sql("UPDATE docs SET above = 1 WHERE id = 5")  # which is needed


def a_tree(world: SmallWorld) -> None:
    world.sql("UPDATE docs SET above = 1 WHERE id IN (2, 3)", "UPDATE docs SET above = 3 WHERE id = 4")


@pytest.mark.parametrize(
    ("change", "left"), [(nested, ["docs/1", "docs/5"]), (a_tree, ["docs/5"])], ids=["needed", "all_of_it"]
)
def test_a_needed_row_of_the_same_table_is_not_taken_along(
    tmp_path: Path, change: Callable[[SmallWorld], None], left: list[str]
) -> None:
    world = made(tmp_path)
    change(world)
    world.execute(world.plan("gone"))
    assert world.objects() == left
    assert world.sql("SELECT key FROM docs ORDER BY id") == [(key,) for key in left]


def test_the_rows_that_own_and_are_owned_are_no_strangers_to_each_other(tmp_path: Path) -> None:
    """The second table's rows go after the first's; that deleting them would cascade to the first is of no matter."""
    policy = {
        "select": {**GONE, "owns": {"table": "folders", "id": "id", "by": "folder"}},
        "keep": [{"while": "id = 0"}],
        "act": {"objects": "delete", "rows": "delete"},
    }
    world = SmallWorld(tmp_path, policies={"gone": policy})
    world.sql(
        "CREATE TABLE folders (id INTEGER PRIMARY KEY)",
        "CREATE TABLE notes (folder INTEGER REFERENCES folders (id) ON DELETE CASCADE)",
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, key TEXT, gone INTEGER, "
        "folder INTEGER REFERENCES folders (id) ON DELETE CASCADE)",
        "INSERT INTO folders VALUES (7), (8)",
        "INSERT INTO docs VALUES (1, 'docs/1', 1, 7), (2, 'docs/2', 1, 8), (3, 'docs/3', 0, NULL)",
    )
    world.put("docs/1", "docs/2", "docs/3")
    plan = world.plan("gone")
    assert plan.totals["cascades"] == {}
    world.sql("INSERT INTO notes VALUES (8)")  # after the plan
    world.execute(plan)
    assert world.sql("SELECT id FROM folders") == [(8,)]
    assert world.sql("SELECT id FROM docs ORDER BY id") == [(2,), (3,)]
    assert world.objects() == ["docs/2", "docs/3"]


@pytest.mark.parametrize("name", ["docs", "public.docs"])
def test_what_may_go_along_is_counted_on_postgresql(pg_database: str, name: str) -> None:
    execute(
        pg_database,
        "CREATE TABLE folders (id int PRIMARY KEY)",
        "CREATE TABLE docs (id int PRIMARY KEY, above int REFERENCES docs ON DELETE CASCADE, "
        "folder int REFERENCES folders ON DELETE CASCADE)",
        "CREATE TABLE pages (doc int REFERENCES docs ON DELETE CASCADE)",
        "CREATE TABLE marks (doc int REFERENCES docs ON DELETE SET NULL)",
        "INSERT INTO folders VALUES (7)",
        "INSERT INTO docs VALUES (1, NULL, 7), (2, NULL, NULL), (3, 2, NULL), (4, NULL, NULL)",
        "INSERT INTO pages VALUES (1), (1), (3)",
        "INSERT INTO marks VALUES (4)",
    )
    owns = {"table": name.replace("docs", "folders"), "id": "id", "by": "folder"}
    select = Select.model_validate({"rows": name, "id": "id", "where": "above IS NULL", "owns": owns})
    along = Along(open_acting_database(pg_database), select, {"public.pages (cascade)": 2})
    more = "more would go along than the plan counted:"
    assert along.refused(name, ["1", "2", "4"]) == {
        "2": f"{more} 1 row of public.docs (cascade), 1 row of public.pages (cascade)",
        "4": f"{more} 1 row of public.marks (set null)",
    }
    assert along.left == {"public.pages (cascade)": 0}
    assert list(along.refused(name, ["1"])) == ["1"]
    assert Along(along.database, select, {}).refused(name, ["3"]) == {"3": f"{more} 1 row of public.pages (cascade)"}
    assert Along(along.database, select, {}).refused(owns["table"], ["7"]) == {
        "7": f"{more} 2 rows of public.pages (cascade)"
    }
