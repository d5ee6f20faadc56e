"""A plan of some groups: each judged whole, never more than the plan of everything, through the same gate."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.core.errors import Refused
from maintenance_defs.reporting.alarms import alarms
from maintenance_defs.retention.planning import take_plan
from tests.retention.small_world import AS_OF, SmallWorld

GENERATIONS = {"of": "book", "by": "edition", "order": "made_at", "tie": "id", "complete_column": "kind",
               "complete_values": ["pdf", "html"]}  # fmt: skip
SUPERSEDED: dict[str, Any] = {
    "select": {"rows": "docs", "id": "id", "where": "book IS NOT NULL", "generations": GENERATIONS},
    "keep": [{"newest_generations": 1}],
    "act": {"objects": "quarantine", "rows": "delete", "acknowledge_history_loss": True},
}
ROWS: dict[str, Any] = {
    "select": {"rows": "docs", "id": "id", "where": "kind = 'html'"},
    "keep": [{"younger_than": "30 d", "by": "made_at"}, {"while": "edition = 'e2'"},
             {"rows": "SELECT id FROM pinned", "match": "id"}],
    "act": {"objects": "quarantine", "rows": "delete"},
    "overlaps": "superseded",
}  # fmt: skip
FILES: dict[str, Any] = {
    "select": {"orphans": "files", "prefix": "docs/"},
    "keep": [{"younger_than": "24 h"}],
    "act": {"objects": "quarantine"},
}


def world(tmp_path: Path, **policies: Any) -> SmallWorld:
    made = SmallWorld(tmp_path / "w", policies=policies or {"superseded": SUPERSEDED, "rows": ROWS, "loose": FILES})
    made.sql(
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, book TEXT, edition TEXT, kind TEXT, key TEXT, made_at TEXT)",
        "CREATE TABLE pinned (id INTEGER)",
    )
    return made


def edition(world: SmallWorld, first: int, book: str | None, name: str, at: str, kinds: str = "pdf html") -> None:
    for n, kind in enumerate(kinds.split()):
        key = f"docs/{first + n}.{kind}"
        said = "NULL" if book is None else "'" + book.replace("'", "''") + "'"
        world.sql(f"INSERT INTO docs VALUES ({first + n}, {said}, '{name}', '{kind}', '{key}', '{at}')")
        world.put(key)


def limited(world: SmallWorld, policy: str, *groups: str) -> PlanRow:
    return take_plan(world.system, policy, world.home, run_id="test", groups=groups)


@pytest.fixture
def books(tmp_path: Path) -> SmallWorld:
    made = world(tmp_path)
    for n, book in enumerate(("a", "b", "c")):
        edition(made, 10 * n + 1, book, "e1", "2025-01-01 00:00:00")
        edition(made, 10 * n + 3, book, "e2", "2025-02-01 00:00:00")
    return made


def test_only_the_named_groups_are_planned_each_whole(books: SmallWorld) -> None:  # S0-30
    whole = books.plan("superseded")
    assert books.going(whole)[1] == ["1", "11", "12", "2", "21", "22"]
    plan = limited(books, "superseded", "b", "b", "nobody")
    assert books.going(plan) == (["docs/11.pdf", "docs/12.html"], ["11", "12"])
    assert (plan.groups, plan.units, plan.totals["population"]["rows"]) == (("b", "nobody"), 2, 12)
    done = books.execute(plan)
    assert (done.state, done.counts) == ("done", {"deleted": 2, "quarantined": 2})
    assert books.going(books.plan("superseded"))[1] == ["1", "2", "21", "22"]


def test_an_incomplete_newest_generation_keeps_its_group_also_when_it_is_planned_alone(books: SmallWorld) -> None:
    edition(books, 35, "b", "e3", "2025-03-01 00:00:00", "pdf")
    books.reconcile()
    plan = limited(books, "superseded", "b")
    assert books.going(plan)[1] == ["11", "12"]  # e2 stays: e3 has no html
    assert plan.totals["flags"] == ["b: newest delivery e3 incomplete: no html"]


@pytest.mark.parametrize("group", ["x' OR '1'='1", "b') OR (1=1", "b; DROP TABLE docs", "%", "?", ":as_of", ""])
def test_a_group_is_a_value_never_sql(books: SmallWorld, group: str) -> None:
    books.reconcile()
    plan = limited(books, "superseded", group)
    assert (plan.units, plan.state) == (0, "done")
    edition(books, 40, group or None, "e1", "2025-01-01 00:00:00")
    edition(books, 42, group or None, "e2", "2025-02-01 00:00:00")
    books.reconcile()
    assert books.going(limited(books, "superseded", group))[1] == (["40", "41"] if group else [])


def test_without_generations_a_group_is_a_row(books: SmallWorld) -> None:  # S3-60
    books.sql("INSERT INTO pinned VALUES (22)")
    books.reconcile()
    assert books.going(books.plan("rows"))[1] == ["12", "2"]  # 22 is pinned, e2 protects
    plan = limited(books, "rows", "2", "4", "22", "11")
    assert books.going(plan)[1] == ["2"]
    assert set(books.kept(plan)) == {"4", "22"}  # 11 is no html


def test_an_object_that_a_row_of_another_group_names_stays(tmp_path: Path) -> None:  # C-8
    made = world(tmp_path)
    edition(made, 1, "a", "e1", "2025-01-01 00:00:00")
    edition(made, 3, "a", "e2", "2025-02-01 00:00:00")
    made.sql("INSERT INTO docs VALUES (9, 'b', 'e1', 'pdf', 'docs/1.pdf', '2025-01-01 00:00:00')")
    made.reconcile()
    plan = limited(made, "superseded", "a")
    assert made.going(plan) == (["docs/2.html"], ["1", "2"])
    made.execute(plan)
    assert "docs/1.pdf" in made.objects()


def test_a_hold_and_a_pause_stop_a_plan_of_some_groups_too(books: SmallWorld) -> None:  # I12, K11
    state = books.home.control.retention
    state.add_hold("small", "ada", "case 1", table="docs", row_id="11")
    books.reconcile()
    plan = limited(books, "superseded", "b")
    assert books.going(plan)[1] == ["12"]
    state.pause("small", None, "ada", "moving house")
    with pytest.raises(Refused, match="moving house"):
        books.execute(plan)


def test_what_has_no_groups_is_planned_whole_only(books: SmallWorld) -> None:
    books.reconcile()
    with pytest.raises(Refused, match="loose of small has no groups") as refused:
        limited(books, "loose", "docs/1.pdf")
    assert refused.value.reason == "no_groups"


def test_small_plans_of_groups_do_not_make_the_whole_one_unusual(tmp_path: Path) -> None:  # G12
    limits = {"max_objects": 1000, "max_rows": 1000, "max_percent": 100, "max_growth": 2, "small_population": 1}
    made = world(tmp_path, superseded=SUPERSEDED | {"limits": limits})
    for n in range(6):
        edition(made, 10 * n + 1, f"b{n}", "e1", "2025-01-01 00:00:00")
        edition(made, 10 * n + 3, f"b{n}", "e2", "2025-02-01 00:00:00")
    made.reconcile()
    for n in range(6):
        limited(made, "superseded", f"b{n}")
    assert made.plan("superseded").totals["limits_exceeded"] == []


def test_a_plan_of_groups_does_not_hide_that_the_whole_one_exceeds_its_limits(tmp_path: Path) -> None:
    made = world(tmp_path, superseded=SUPERSEDED | {"limits": {"max_rows": 2}})
    for n in range(3):
        edition(made, 10 * n + 1, f"b{n}", "e1", "2025-01-01 00:00:00")
        edition(made, 10 * n + 3, f"b{n}", "e2", "2025-02-01 00:00:00")
    made.plan("superseded")
    limited(made, "superseded", "b1")
    assert "small/superseded limits" in alarms([made.system], made.home)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_plan_of_groups_is_the_whole_one_restricted_to_them(  # property
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = world(tmp_path_factory.mktemp("groups"))
    number = 0
    for book in "abc":
        for name in range(data.draw(st.integers(0, 3))):
            at = AS_OF - timedelta(days=data.draw(st.sampled_from([1, 29, 31, 60])))
            kinds = data.draw(st.sampled_from(["pdf html", "pdf", "html"]))
            edition(made, number, book, f"e{name}", f"{at:%Y-%m-%d %H:%M:%S}", kinds)
            number += 2
    chosen = data.draw(st.lists(st.sampled_from("abc"), min_size=1, unique=True))
    rows = [str(id_) for id_, book in made.sql("SELECT id, book FROM docs") if book in chosen]
    for policy, groups in (("superseded", chosen), ("rows", rows)):
        whole = made.going(made.plan(policy))[1]
        if groups:
            assert made.going(limited(made, policy, *groups))[1] == sorted(set(whole) & set(rows))
