"""A keep rule is a reason to stay: what each protects, and that one more never lets more go."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maintenance_defs.core.errors import DeclarationError
from maintenance_defs.declarations import load_systems
from maintenance_defs.reporting.retention_text import cascade_words
from maintenance_defs.retention.purge import due_for_purge, purge_entries
from tests.components.conftest import write
from tests.retention.small_world import AS_OF, DOCS, OLD, SmallWorld

SCHEMA = """
CREATE TABLE docs (id TEXT PRIMARY KEY, grp TEXT, dlv TEXT, kind TEXT, key TEXT, state TEXT, done_at TEXT, made_at TEXT)
"""
ROWS = {"rows": "docs", "id": "id", "where": "state = 'old'"}
BOTH = {"objects": "quarantine", "rows": "delete"}
GENERATIONS = {
    "of": "grp", "by": "dlv", "order": "made_at", "tie": "id", "complete_column": "kind",
    "complete_values": ["pdf", "html"],
}  # fmt: skip


def world(path: Path, policies: dict[str, dict[str, Any]], *references: dict[str, Any]) -> SmallWorld:
    made = SmallWorld(path, (DOCS, *references), policies)
    made.sql(SCHEMA)
    return made


def add(
    made: SmallWorld, id_: str, *, key: str | None = None, grp: str = "g", dlv: str = "d", kind: str = "pdf",
    state: str = "old", done: datetime | None = OLD, created: datetime = OLD, put: bool = True,
) -> None:  # fmt: skip
    key = f"docs/{id_}" if key is None else key
    done_at = "NULL" if done is None else f"'{done:%Y-%m-%d %H:%M:%S}'"
    made.sql(
        f"INSERT INTO docs VALUES ('{id_}', '{grp}', '{dlv}', '{kind}', '{key}', '{state}', {done_at}, "
        f"'{created:%Y-%m-%d %H:%M:%S}')"
    )
    if put:
        made.put(key)


# Adding a rule never lets more go -----------------------------------------------------------------

RULES: list[dict[str, Any]] = [
    {"younger_than": "30 d", "by": "made_at"},
    {"younger_than": "100 d", "by": ["done_at", "made_at"]},
    {"newest_generations": 1},
    {"newest_generations": 2},
    {"until_counterpart_exists": "final/{id}", "store": "files"},
    {"while": "kind <> 'pdf'"},
    {"while": "grp = 'a'"},
    {"rows": "SELECT id FROM docs WHERE kind = 'html'", "match": "id"},
    {"referenced_elsewhere": True},
]
ITEMS = st.lists(
    st.tuples(
        st.sampled_from("ab"),  # group
        st.sampled_from("xyz"),  # delivery
        st.sampled_from(["pdf", "html"]),
        st.sampled_from(["old", "new"]),
        st.sampled_from([None, 1, 29, 30, 31, 99, 101]),  # days since done
        st.sampled_from([1, 30, 31, 101]),  # days since made
        st.booleans(),  # its object exists
        st.booleans(),  # its counterpart exists
        st.sampled_from([None, 0, 1]),  # shares the object of this item
    ),
    min_size=1,
    max_size=8,
)  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=ITEMS, chosen=st.lists(st.sampled_from(range(len(RULES))), min_size=2, max_size=4, unique=True))
def test_adding_a_rule_never_deletes_more(tmp_path: Path, items: list[tuple[Any, ...]], chosen: Sequence[int]) -> None:
    """I13: for every set of rules and every one more, what goes is a subset, in rows and in objects."""
    policies: dict[str, dict[str, Any]] = {}
    sets = [subset for size in (1, len(chosen)) for subset in itertools.combinations(chosen, size)]
    for subset in sets:
        policies["r" + "_".join(map(str, subset))] = {
            "select": ROWS | {"generations": GENERATIONS},
            "keep": [RULES[n] for n in subset],
            "act": BOTH | {"acknowledge_history_loss": True},
        }
    names = list(policies)
    for name in names:
        policies[name]["overlaps"] = [other for other in names if other != name]
    made = world(tmp_path / uuid.uuid4().hex, policies)
    for n, (grp, dlv, kind, state, done, created, there, counterpart, shares) in enumerate(items):
        key = f"docs/{n if shares is None else min(shares, n)}"
        add(
            made, f"i{n}", key=key, grp=grp, dlv=grp + dlv, kind=kind, state=state,
            done=None if done is None else AS_OF - timedelta(days=done), created=AS_OF - timedelta(days=created),
            put=there,
        )  # fmt: skip
        if counterpart:
            made.put(f"final/i{n}")
    made.put("docs/anchor")
    made.reconcile()
    gone = {}
    for subset, name in zip(sets, names, strict=True):
        keys, rows = made.going(made.plan(name, again=False))
        gone[subset] = (set(keys), set(rows))
    keys, rows = gone[tuple(chosen)]
    for n in chosen:
        assert keys <= gone[(n,)][0]
        assert rows <= gone[(n,)][1]


# What each rule protects --------------------------------------------------------------------------


def test_the_newest_complete_generation_stays_whole(tmp_path: Path) -> None:
    """K01: three generations; the newest lacks its HTML, so the one before it stays too."""
    made = world(
        tmp_path / "w",
        {"p": {"select": ROWS | {"generations": GENERATIONS}, "keep": [{"newest_generations": 1}],
               "act": BOTH | {"acknowledge_history_loss": True}}},
    )  # fmt: skip
    for number, kinds in enumerate((["pdf", "html"], ["pdf", "html"], ["pdf"]), 1):
        for kind in kinds:
            add(made, f"{number}{kind}", dlv=f"d{number}", kind=kind, created=OLD + timedelta(days=number))
    plan = made.plan("p")
    assert made.going(plan) == (["docs/1html", "docs/1pdf"], ["1html", "1pdf"])
    assert "incomplete: no html" in made.kept(plan)["3pdf"]
    assert plan.totals["flags"] == ["g: newest delivery d3 incomplete: no html"]
    (tmp_path / "w/files/docs/2html").unlink()  # complete means: its objects are there
    assert made.going(made.plan("p"))[1] == []


def test_age_counts_from_completion_then_from_creation(tmp_path: Path) -> None:
    """K05: created long ago, completed a minute ago."""
    made = world(
        tmp_path / "w", {"p": {"select": ROWS, "keep": [{"younger_than": "1 h", "by": ["done_at", "made_at"]}],
                               "act": BOTH}},
    )  # fmt: skip
    add(made, "young", created=AS_OF - timedelta(hours=2), done=AS_OF - timedelta(minutes=1))
    add(made, "exact", done=AS_OF - timedelta(hours=1))
    add(made, "older", done=AS_OF - timedelta(hours=1, seconds=1))
    add(made, "created", created=AS_OF - timedelta(hours=2), done=None)
    add(made, "future", done=AS_OF + timedelta(days=1))
    plan = made.plan("p")
    assert made.going(plan)[1] == ["created", "older"]
    assert "lies after" in made.kept(plan)["future"]


def test_a_row_of_no_time_at_all_is_held_and_listed(tmp_path: Path) -> None:
    """X-34: an age that nobody can tell is never old."""
    made = world(
        tmp_path / "w", {"p": {"select": ROWS, "keep": [{"younger_than": "1 h", "by": "done_at"}], "act": BOTH}}
    )
    add(made, "timeless", done=None)
    plan = made.plan("p")
    assert made.going(plan) == ([], [])
    assert "done_at is unknown" in made.kept(plan)["timeless"]


SAVED = {
    "table": "saved", "id": "id", "store": "files", "protects_only": True,
    "object": {"json": "meta", "at": "$.key", "form": "column"},
}  # fmt: skip
UNSAVED = {
    "select": ROWS,
    "keep": [{"rows": "SELECT meta ->> '$.doc' FROM saved WHERE meta ->> '$.doc' IS NOT NULL", "match": "id"}],
    "act": BOTH,
}


def test_what_is_saved_is_no_candidate_before_or_after_the_plan(tmp_path: Path) -> None:
    """K06: linked through JSON, in any spelling; also when it was linked between plan and act."""
    made = world(tmp_path / "w", {"p": UNSAVED}, SAVED)
    made.sql("CREATE TABLE saved (id TEXT PRIMARY KEY, meta TEXT)")
    for id_ in ("one", "two", "three"):
        add(made, id_)
    made.sql("INSERT INTO saved VALUES ('s1', '{\"doc\": \" ONE \"}')")
    plan = made.plan("p")
    assert made.going(plan) == (["docs/three", "docs/two"], ["three", "two"])
    made.sql("INSERT INTO saved VALUES ('s2', '{\"doc\": \"two\"}')")
    assert made.execute(plan).counts == {"quarantined": 1, "deleted": 1, "skipped_referenced": 2}
    assert made.objects() == ["docs/one", "docs/two"]
    assert made.sql("SELECT id FROM docs ORDER BY id") == [("one",), ("two",)]


def test_a_file_of_two_rows_stays_while_one_of_them_stays(tmp_path: Path) -> None:
    """K07, C-8: the unsaved row may go, the file it shares with a saved one may not."""
    made = world(tmp_path / "w", {"p": UNSAVED}, SAVED)
    made.sql("CREATE TABLE saved (id TEXT PRIMARY KEY, meta TEXT)")
    add(made, "one", key="docs/shared")
    add(made, "two", key="docs/shared")
    add(made, "three")
    made.sql("INSERT INTO saved VALUES ('s', '{\"doc\": \"one\"}')")
    plan = made.plan("p")
    assert made.going(plan) == (["docs/three"], ["three", "two"])
    made.execute(plan)
    assert made.objects() == ["docs/shared"]
    made.sql("DELETE FROM saved")
    assert made.going(made.plan("p")) == (["docs/shared"], ["one"])  # with the last row that names it


def test_a_row_whose_object_another_table_names_is_held(tmp_path: Path) -> None:
    """C-8: what depends on the object's going waits, even though no keep rule knows of it."""
    made = world(tmp_path / "w", {"p": UNSAVED}, SAVED)
    made.sql("CREATE TABLE saved (id TEXT PRIMARY KEY, meta TEXT)")
    add(made, "one")
    made.sql("INSERT INTO saved VALUES ('s', '{\"key\": \"docs/one\"}')")
    plan = made.plan("p")
    assert made.going(plan) == ([], [])
    assert made.kept(plan)["one"].startswith("referenced_elsewhere: ")


RAW = {
    "select": ROWS | {"within": {"store": "files", "prefix": "raw/"}},
    "keep": [
        {"until_counterpart_exists": "final/{id}", "store": "files"},
        {"while": "kind <> 'passed'", "because": "it has not passed"},
    ],
    "act": {"repoint": {"key": "final/{id}"}, "objects": "quarantine"},
}


@pytest.mark.parametrize("final", ["good", "empty", "absent", "not passed", "status unknown"])
def test_a_raw_file_stays_until_its_final_is_good(tmp_path: Path, final: str) -> None:
    """K08: the final exists, is not empty and was validated; the row points to it before the raw file goes."""
    made = world(tmp_path / "w", {"p": RAW})
    add(made, "one", key="raw/one", kind={"not passed": "failed", "status unknown": ""}.get(final, "passed"))
    if final == "status unknown":
        made.sql("UPDATE docs SET kind = NULL")
    if final != "absent":
        made.put("final/one", size_bytes=0 if final == "empty" else 4)
    plan = made.plan("p")
    if final != "good":
        assert plan.units == 0
        assert "one" in made.kept(plan)
        return
    assert made.execute(plan).counts == {"set": 1, "quarantined": 1}
    assert (made.objects(), made.sql("SELECT key FROM docs")) == (["final/one"], [("final/one",)])


# Holds, cascades, overlaps ------------------------------------------------------------------------

EVERYWHERE: dict[str, dict[str, Any]] = {
    "orphans": {"select": {"orphans": "files", "prefix": "docs/"}, "keep": [{"younger_than": "24 h"}],
                "act": {"objects": "quarantine"}},
    "rows": {"select": ROWS, "keep": [{"younger_than": "1 h", "by": "made_at"}], "act": BOTH},
    "temporary": {"select": {"objects": "files", "prefix": "raw/"}, "keep": [{"younger_than": "1 h"}],
                  "act": {"objects": "delete"}},
}  # fmt: skip
HELD = {"orphans": "docs/stray", "rows": "docs/one", "temporary": "raw/stray"}


def everywhere(path: Path) -> SmallWorld:
    made = world(path, EVERYWHERE)
    add(made, "one")
    made.put(*HELD.values())
    return made


def hold(made: SmallWorld, **what: str) -> None:
    made.home.control.retention.add_hold("small", "legal", "case 7", **what)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", list(EVERYWHERE))
@pytest.mark.parametrize("held_before", ["plan", "act"])
def test_a_hold_stops_every_path(tmp_path: Path, policy: str, held_before: str) -> None:
    """K11: orphan, retention of rows and objects, caches: held when planned, or held after the plan."""
    made = everywhere(tmp_path / "w")
    if held_before == "plan":
        hold(made, store="files", key=HELD[policy])
    plan = made.plan(policy)
    if held_before == "plan":
        assert plan.units == 0
        assert any("held by legal: case 7" in reason for reason in made.kept(plan).values())
    else:
        assert plan.units == 1
        hold(made, store="files", key=HELD[policy])
        assert "skipped_held" in made.execute(plan).counts
    assert HELD[policy] in made.objects()
    assert made.sql("SELECT id FROM docs") == [("one",)]


@pytest.mark.parametrize(
    ("policy", "what"),
    [
        ("orphans", {"prefix": "/DOCS/"}),
        ("orphans", {"key": "Docs/Stray/"}),
        ("rows", {"prefix": "Docs/O"}),
        ("rows", {"table": "main.Docs"}),
        ("rows", {"table": '"docs"', "row_id": "one"}),
        ("rows", {"row_id": "one"}),
    ],
)
def test_a_hold_is_read_as_loosely_by_a_plan_as_before_an_act(
    tmp_path: Path, policy: str, what: dict[str, str]
) -> None:
    """What would be held back at the act is not announced as going (I2, K11)."""
    made = everywhere(tmp_path / "w")
    plan = made.plan(policy)
    hold(made, **what)
    assert made.plan(policy).units == 0
    assert "skipped_held" in made.execute(plan).counts


@pytest.mark.parametrize("what", [{"table": "other"}, {"row_id": "two"}, {"prefix": "docs/ones"}, {"key": "docs/on"}])
def test_a_hold_on_something_else_holds_nothing_back(tmp_path: Path, what: dict[str, str]) -> None:
    made = everywhere(tmp_path / "w")
    hold(made, **what)
    assert made.plan("rows").units == 1


def test_a_hold_on_a_record_keeps_its_row_and_its_object(tmp_path: Path) -> None:
    """K11: record delete."""
    made = everywhere(tmp_path / "w")
    plan = made.plan("rows")
    hold(made, table="docs", row_id="one")
    assert made.execute(plan).state in ("done", "partial")
    assert ("docs/one" in made.objects(), made.sql("SELECT id FROM docs")) == (True, [("one",)])
    assert made.plan("rows").units == 0


def test_a_hold_stops_the_purge_of_what_is_quarantined(tmp_path: Path) -> None:
    """K11: quarantine purge."""
    made = everywhere(tmp_path / "w")
    assert made.execute(made.plan("orphans")).counts == {"quarantined": 1}
    made.reconcile()
    hold(made, store="files", key=HELD["orphans"])
    due = due_for_purge(made.system, made.home, at=datetime.now(UTC) + timedelta(days=31))
    undone = purge_entries(made.system, made.home, due.due, actor="ada", reason="over")
    assert not undone.counts.get("purged")


def test_cascades_are_counted_in_the_plan_and_by_its_limits(tmp_path: Path) -> None:
    """J06: deleting one row takes twenty others along; the limit of ten rows sees them."""
    policy = {"select": ROWS, "keep": [{"younger_than": "1 h", "by": "made_at"}], "act": {"rows": "delete"},
              "limits": {"max_rows": 10, "max_percent": 100, "max_cascaded_rows": 20}}  # fmt: skip
    made = world(tmp_path / "w", {"p": policy})
    made.sql("CREATE TABLE pages (id INTEGER PRIMARY KEY, doc TEXT REFERENCES docs(id) ON DELETE CASCADE)")
    add(made, "one", put=False)
    made.put("docs/anchor")
    for _ in range(20):
        made.sql("INSERT INTO pages (doc) VALUES ('one')")
    plan = made.plan("p")
    assert (plan.rows, plan.totals["cascades"]) == (1, {"pages (cascade)": 20})
    (exceeded,) = plan.totals["limits_exceeded"]
    assert "21 rows" in exceeded
    assert "limit 10" in exceeded
    (words,) = cascade_words(plan.totals["cascades"])
    assert words == "20 rows of pages would go along, and a restore brings none back"
    assert list(cascade_words({"a.b (set null)": 1})) == [
        "1 row of a.b would change along (set null), and a restore changes none back"
    ]


DEPLOYMENT = """\
type: maintenance_defs.components.MaintainedSystem
attributes:
  name: {name}
  database: {{url_env: DB}}
  stores: {{files: {{url_env: FILES, scopes: [{{prefix: {prefix}, exclusive: true, class: temporary}}]}}}}
  references: [{{table: docs, id: id, store: files, object: {{column: key}}}}]
  retention:
    year: {{describe: y, select: {{objects: files, prefix: {one}}}, keep: [{{younger_than: 365 d}}], act: {{objects: delete}}}}
    day: {{describe: d, select: {{objects: files, prefix: {other}}}, keep: [{{younger_than: 1 d}}], act: {{objects: delete}}{more}}}
"""  # noqa: E501


def test_overlapping_policies_must_be_declared(tmp_path: Path) -> None:
    """E04: media/ for a year and media/tmp/ for a day is a mistake, or said to be meant."""
    given_ = {"name": "one", "prefix": "media/", "one": "media/", "other": "media/tmp/"}
    with pytest.raises(DeclarationError, match=r"retention\.day: it and 'year' may take the same objects"):
        load_systems(write(tmp_path / "a", {"assets/one/defs.yaml": DEPLOYMENT.format(**given_, more="")}), {})
    meant = DEPLOYMENT.format(**given_, more=", overlaps: year")
    load_systems(write(tmp_path / "b", {"assets/one/defs.yaml": meant}), {})
    again = {"assets/one/defs.yaml": meant, "assets/two/defs.yaml": meant.replace("name: one", "name: two")}
    with pytest.raises(DeclarationError, match="overlap in FILES"):
        load_systems(write(tmp_path / "c", again), {})
