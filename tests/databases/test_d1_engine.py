"""The same questions to the engine that D1 runs on: what it permits, how it writes values, what a refusal undoes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from maintenance_defs.databases.acting import RowImage, open_acting_database
from maintenance_defs.databases.d1 import D1Database
from tests.databases.test_acting_sqlite import COLUMNS, EVERY, IDS
from tests.support.d1 import ACCOUNT, DATABASE
from tests.support.real_servers import miniflare

pytestmark = pytest.mark.real
SHOWN = ", ".join(f"typeof({c}) AS t{c}, quote({c}) AS q{c}, hex({c}) AS h{c}" for c in COLUMNS)
EXACT = f"SELECT id, {SHOWN} FROM t ORDER BY id"


class Engine:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.url = f"d1://:any@{ACCOUNT}/{DATABASE}?endpoint_url={endpoint}"

    def execute(self, *statements: str) -> Any:
        batch = {"batch": [{"sql": sql} for sql in statements]}
        said = urllib3.request("POST", self.endpoint, json=batch).json()
        assert said["success"], said
        return said["result"][-1]["results"]["rows"]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with miniflare(tmp_path_factory.mktemp("miniflare")) as made:
        yield made


@pytest.fixture
def engine(endpoint: str) -> Engine:
    made = Engine(endpoint)
    for kind in ("trigger", "table"):
        for (name,) in made.execute(f"SELECT name FROM sqlite_schema WHERE type = '{kind}' AND name NOT LIKE '\\_cf%' "
                                    "ESCAPE '\\' AND name NOT LIKE 'sqlite%' ORDER BY rowid DESC"):  # fmt: skip
            made.execute(f"DROP {kind} {name}")
    return made


def test_every_value_is_read_deleted_set_and_put_back_as_it_was(engine: Engine) -> None:
    engine.execute(*EVERY)
    before = engine.execute(EXACT)
    acting = open_acting_database(engine.url)
    images = [acting.images("t", ["id"], IDS)[id_] for id_ in IDS]
    assert {one.outcome for one in acting.delete("t", ["id"], images, "1", {})} == {"deleted"}
    assert engine.execute("SELECT count(*) FROM t") == [[0]]
    done = acting.restore([RowImage.from_json(json.loads(json.dumps(image.as_json()))) for image in images])
    assert {one.outcome for one in done} == {"restored"}
    assert engine.execute(EXACT) == before
    new: dict[str, Any] = {"i": 2**53 + 1, "r": 0.1, "x": "neu é\n", "b": None, "any": True}
    done = acting.update("t", ["id"], images, "1", {}, dict.fromkeys(IDS, new))
    assert {(one.outcome, one.detail) for one in done} == {("set", None)}
    back = acting.revert(images, [one.after for one in done if one.after is not None])
    assert {one.outcome for one in back} == {"restored"}
    assert engine.execute(EXACT) == before


@pytest.mark.parametrize("page_rows", [1, 2, 20_000])
def test_copy_is_the_database(engine: Engine, page_rows: int) -> None:
    engine.execute(*EVERY)
    names = [f"column_with_a_rather_long_name_{n}" for n in range(100)]
    engine.execute(
        f"CREATE TABLE wide ({', '.join(names)})",
        f"INSERT INTO wide ({names[99]}) VALUES ('last')",
        "CREATE TABLE bytes (k TEXT COLLATE NOCASE, n INT, PRIMARY KEY (k COLLATE BINARY, n)) WITHOUT ROWID",
        "INSERT INTO bytes VALUES ('a', 1), ('A', 1), ('b', 2), ('B', 1), ('é', 1)",
    )
    with D1Database(engine.url, page_rows=page_rows).snapshot() as snapshot:
        shown = "SELECT id, typeof(any) AS t, hex(x) AS h, hex(any) AS a, CAST(i AS TEXT) AS i FROM t ORDER BY id"
        assert [list(row.values()) for row in snapshot.rows(shown)] == engine.execute(shown)
        assert snapshot.rows(f"SELECT {names[99]} AS k FROM wide") == [{"k": "last"}]
        assert snapshot.rows("SELECT count(*) AS n FROM bytes") == [{"n": 5}]


def test_refused_batch_has_done_nothing(engine: Engine) -> None:
    engine.execute(
        "CREATE TABLE t (id TEXT PRIMARY KEY, n INT)",
        "CREATE TABLE child (id INTEGER PRIMARY KEY, t TEXT REFERENCES t (id))",
        "INSERT INTO t VALUES ('a', 1), ('b', 2)",
        "INSERT INTO child (t) VALUES ('a')",
    )
    acting = open_acting_database(engine.url)
    images = list(acting.images("t", ["id"], ["a", "b"]).values())
    assert acting.cascades("t", ["id"], ["a"]) == {}
    done = acting.delete("t", ["id"], images, "1", {})
    assert [one.outcome for one in done] == ["skipped_referenced", "deleted"]
    assert "FOREIGN KEY" in str(done[0].detail)
    engine.execute("CREATE TRIGGER other AFTER INSERT ON t BEGIN UPDATE t SET n = 9 WHERE id = new.id; END")
    (restored,) = acting.restore(images[1:])
    assert restored.outcome == "failed"
    assert engine.execute("SELECT id FROM t") == [["a"]]


def test_cascades_are_counted(engine: Engine) -> None:
    engine.execute(
        "CREATE TABLE t (id TEXT PRIMARY KEY)",
        "CREATE TABLE child (id INTEGER PRIMARY KEY, t TEXT REFERENCES t (id) ON DELETE CASCADE)",
        "INSERT INTO t VALUES ('a'), ('b')",
        "INSERT INTO child (t) VALUES ('a'), ('a'), ('b')",
    )
    assert open_acting_database(engine.url).cascades("t", ["id"], ["a"]) == {"child (cascade)": 2}
