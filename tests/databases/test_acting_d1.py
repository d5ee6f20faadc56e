"""What only acting on D1 has: no lock, statements that name what they may change, and answers that get lost."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.databases import d1_http
from maintenance_defs.databases.acting import ActingDatabase, RowImage, open_acting_database
from tests.databases.test_acting_sqlite import EVERY, EXACT, IDS
from tests.support.d1 import D1, TOKEN, d1_server, writes

THREE = (
    "CREATE TABLE t (id text PRIMARY KEY, k text, n int)",
    "INSERT INTO t VALUES ('a','x',1), ('b','y',2), ('c','z',3)",
)
LOST = ["500", "500 after", "cut", "cut after", "truncated", "shape", "html", "slow after", "ragged"]


@pytest.fixture
def pauses() -> list[float]:
    """The seconds that were waited, in tests: not at all."""
    return []


@pytest.fixture
def d1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> Iterator[D1]:
    monkeypatch.setattr(d1_http.D1Client, "pause", lambda self, seconds: pauses.append(seconds))
    monkeypatch.setattr(d1_http, "WAIT_SECONDS", 0.8)
    with d1_server(tmp_path / "live.db") as made:
        made.only = writes
        yield made


def execute(d1: D1, *statements: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(d1.file, isolation_level=None)
    connection.text_factory = bytes
    rows: list[tuple[Any, ...]] = []
    for statement in statements:
        rows = connection.execute(statement).fetchall()
    connection.close()
    return rows


def seen(acting: ActingDatabase, *ids: str) -> list[RowImage]:
    return list(acting.images("t", ["id"], ids).values())


def changes(d1: D1) -> int:
    return sum(writes(asked) for asked in d1.asked)


def test_every_storage_class_goes_and_comes_back_as_it_was(d1: D1) -> None:
    execute(d1, *EVERY)
    before = execute(d1, f"{EXACT} FROM t ORDER BY id")
    acting = open_acting_database(d1.url)
    images = seen(acting, *IDS)
    assert {one.outcome for one in acting.delete("t", ["id"], images, "1", {})} == {"deleted"}
    assert execute(d1, "SELECT count(*) FROM t") == [(0,)]
    done = acting.restore([RowImage.from_json(json.loads(json.dumps(image.as_json()))) for image in images])
    assert {(one.outcome, one.detail) for one in done} == {("restored", None)}
    assert execute(d1, f"{EXACT} FROM t ORDER BY id") == before


def test_images_are_those_of_the_same_file_read_as_sqlite(d1: D1) -> None:
    execute(d1, *EVERY)
    file = open_acting_database(f"sqlite:///{d1.file}")
    assert open_acting_database(d1.url).images("t", ["id"], IDS) == file.images("t", ["id"], IDS)


def test_set_values_are_set_back_exactly(d1: D1) -> None:
    execute(d1, *EVERY)
    before = execute(d1, f"{EXACT} FROM t ORDER BY id")
    acting = open_acting_database(d1.url)
    images = seen(acting, *IDS)
    new: dict[str, Any] = {"i": 2**53 + 1, "r": 0.1, "x": "neu é\n", "b": None, "any": True}
    done = acting.update("t", ["id"], images, "1", {}, dict.fromkeys(IDS, new))
    assert {(one.outcome, one.detail) for one in done} == {("set", None)}
    assert acting.has("t", ["id"], "b", new)
    assert execute(d1, "SELECT DISTINCT i, r, x, b, any FROM t") == [(2**53 + 1, 0.1, "neu é\n".encode(), None, 1)]
    back = acting.revert(images, [one.after for one in done if one.after is not None])
    assert {(one.outcome, one.detail) for one in back} == {("restored", None)}
    assert execute(d1, f"{EXACT} FROM t ORDER BY id") == before


@pytest.mark.parametrize("kind", ["delete", "update"])
def test_row_that_changes_between_the_look_and_the_act_stays(d1: D1, kind: str) -> None:
    """There are no locks: the application writes after we judged and before our statement comes."""
    execute(d1, *THREE)
    acting = open_acting_database(d1.url)
    images = seen(acting, "a", "b")

    def write() -> None:
        execute(d1, "UPDATE t SET k = 'new' WHERE id = 'a'")

    d1.before = lambda: setattr(d1, "before", lambda: setattr(d1, "before", write))  # schema, look, then the act
    if kind == "delete":
        done = acting.delete("t", ["id"], images, "1", {})
        assert execute(d1, "SELECT id, k FROM t ORDER BY id") == [(b"a", b"new"), (b"c", b"z")]
    else:
        done = acting.update("t", ["id"], images, "1", {}, {"a": {"n": 9}, "b": {"n": 9}})
        assert execute(d1, "SELECT id, n FROM t ORDER BY id") == [(b"a", 1), (b"b", 9), (b"c", 3)]
    assert [one.outcome for one in done] == ["skipped_changed", "deleted" if kind == "delete" else "set"]
    assert done[0].detail == "changed since it was seen: k"


@pytest.mark.parametrize("fault", LOST)
def test_deletion_whose_answer_is_lost_is_looked_at_and_never_sent_again(
    d1: D1, fault: str, pauses: list[float]
) -> None:
    execute(d1, *THREE)
    acting = open_acting_database(d1.url)
    images = seen(acting, "a", "b")
    d1.faults = [fault]
    done = acting.delete("t", ["id"], images, "1", {})
    left = [row[0].decode() for row in execute(d1, "SELECT id FROM t ORDER BY id")]
    expected = "unknown" if "a" in left else "deleted"
    assert [one.outcome for one in done] == [expected, expected]
    assert ("a" in left) == (fault in ("500", "cut", "html"))
    assert all("not known" in str(one.detail) for one in done)
    assert max(pauses) > 30  # by then, Cloudflare says, the request is over
    assert changes(d1) == 1


@pytest.mark.parametrize("fault", LOST)
def test_change_whose_answer_is_lost_is_looked_at_and_never_sent_again(d1: D1, fault: str) -> None:
    execute(d1, *THREE)
    acting = open_acting_database(d1.url)
    images = seen(acting, "a", "b")
    d1.faults = [fault]
    done = acting.update("t", ["id"], images, "n < 5", {}, {"a": {"n": 9}, "b": {"n": 9}})
    values = execute(d1, "SELECT n FROM t ORDER BY id")
    expected = "set" if values[0] == (9,) else "unknown"
    assert [one.outcome for one in done] == [expected, expected]
    assert (values[0] == (1,)) == (fault in ("500", "cut", "html"))
    assert changes(d1) == 1
    if expected == "set":
        assert [one.outcome for one in acting.revert(images, [one.after for one in done if one.after])] == [
            "restored",
            "restored",
        ]


@pytest.mark.parametrize("fault", LOST)
def test_restored_row_whose_answer_is_lost_is_there_once(d1: D1, fault: str) -> None:
    execute(d1, *THREE)
    acting = open_acting_database(d1.url)
    images = seen(acting, "a")
    acting.delete("t", ["id"], images, "1", {})
    d1.faults = [fault]
    (done,) = acting.restore(images)
    there = execute(d1, "SELECT count(*) FROM t WHERE id = 'a'") == [(1,)]
    assert done.outcome == ("restored" if there else "unknown")
    (again,) = acting.restore(images)
    assert again.outcome == "restored"
    assert execute(d1, "SELECT count(*) FROM t") == [(3,)]


def test_change_that_was_not_taken_is_sent_again(d1: D1) -> None:
    execute(d1, *THREE)
    acting = open_acting_database(d1.url)
    images = seen(acting, "a")
    d1.faults = ["429", "429"]
    assert [one.outcome for one in acting.delete("t", ["id"], images, "1", {})] == ["deleted"]


def test_change_does_not_wait_until_what_was_verified_is_old(d1: D1, pauses: list[float]) -> None:
    execute(d1, *THREE)
    acting = open_acting_database(d1.url)
    images = seen(acting, "a")
    d1.faults = ["429 300"]
    with pytest.raises(SourceUnavailable, match="Nothing was changed") as caught:
        acting.delete("t", ["id"], images, "1", {})
    assert caught.value.transient
    assert pauses == []
    d1.only, d1.faults = (lambda _: True), ["429 300"]
    assert len(seen(acting, "a")) == 1  # who reads may wait
    assert pauses == [300.0]


def test_database_that_cannot_be_looked_at_afterwards_is_said(d1: D1) -> None:
    execute(d1, *THREE)
    acting = open_acting_database(d1.url)
    images = seen(acting, "a")
    d1.faults = ["cut after"]

    def blind() -> None:
        d1.only, d1.faults = (lambda _: True), ["cut after"] * 50

    d1.before = lambda: setattr(d1, "before", lambda: setattr(d1, "before", blind))
    with pytest.raises(SourceUnavailable):
        acting.delete("t", ["id"], images, "1", {})
    d1.faults = []
    assert [one.outcome for one in acting.delete("t", ["id"], images, "1", {})] == ["already_absent"]


def test_statements_keep_to_the_limits_with_many_and_with_large_rows(d1: D1) -> None:
    columns = ", ".join(f"some_column_{n} TEXT" for n in range(90))
    execute(
        d1,
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, {columns})",
        "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT 205) "
        "INSERT INTO t (id, some_column_3) SELECT n, printf('%.*c', n * 10, 'é') FROM g",
        "UPDATE t SET some_column_5 = printf('%.*c', 400000, 'x') WHERE id IN (7, 8, 9)",
    )
    acting = open_acting_database(d1.url)
    before = execute(d1, "SELECT * FROM t WHERE id < 12 ORDER BY id")
    images = seen(acting, *map(str, range(1, 206)))
    new = {str(n): {"some_column_1": "text"} for n in range(1, 206)}
    done = acting.update("t", ["id"], images[:11], "1", {}, new)
    assert {one.outcome for one in done} == {"set"}
    back = acting.revert(images[:11], [one.after for one in done if one.after is not None])
    assert {one.outcome for one in back} == {"restored"}
    assert {one.outcome for one in acting.delete("t", ["id"], images, "1", {})} == {"deleted"}
    assert {one.outcome for one in acting.restore(images[:11])} == {"restored"}
    assert execute(d1, "SELECT * FROM t ORDER BY id") == before
    sent = [value for asked in d1.asked for one in asked for value in one["params"]]
    assert max(map(len, sent)) < 1_000_000


def test_foreign_keys_cascades_and_triggers_are_d1s(d1: D1) -> None:
    execute(
        d1,
        *THREE,
        "CREATE TABLE child (id INTEGER PRIMARY KEY, t text REFERENCES t (id) ON DELETE CASCADE)",
        "CREATE TABLE guard (t text REFERENCES t (id))",
        "INSERT INTO child (t) VALUES ('a'), ('a'), ('b')",
        "INSERT INTO guard VALUES ('c')",
    )
    acting = open_acting_database(d1.url)
    assert acting.cascades("t", ["id"], ["a", "b"]) == {"child (cascade)": 3}
    done = acting.delete("t", ["id"], seen(acting, "a", "c"), "1", {})
    assert [one.outcome for one in done] == ["deleted", "skipped_referenced"]
    assert "FOREIGN KEY" in str(done[1].detail)
    assert execute(d1, "SELECT count(*) FROM child") == [(1,)]


def test_token_that_may_only_read_changes_nothing_and_is_not_said(d1: D1) -> None:
    execute(d1, *THREE)
    d1.tokens[TOKEN] = False
    acting = open_acting_database(d1.url)
    done = acting.delete("t", ["id"], seen(acting, "a"), "1", {})
    assert [one.outcome for one in done] == ["failed"]
    assert TOKEN not in repr(done) + repr(acting)
    assert execute(d1, "SELECT count(*) FROM t") == [(3,)]


def test_scripts_may_ask_and_not_change(d1: D1) -> None:
    execute(d1, *THREE)
    acting = open_acting_database(d1.url)
    with acting.script(read_only=True) as script:
        assert script.ask("SELECT count(*) AS n FROM t -- how many?") == [{"n": 3}]
        with pytest.raises(Refused, match="wrangler"):
            script.run("DELETE FROM t")
    with pytest.raises(Refused, match="wrangler"), acting.script():
        pass
    assert changes(d1) == 0
