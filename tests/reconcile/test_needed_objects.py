"""An object that some row still means is never an orphan candidate, however the row spells it (I2)."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.core.declaration import System
from maintenance_defs.reconcile.orphan_diff import take_orphan_diff
from tests.support.diff_world import Diff
from tests.support.postgres import execute
from tests.support.reference_world import World

OLD = (datetime.now(UTC) - timedelta(days=30)).timestamp()
CDN = "https://cdn.example.org/"
KEY = "a/x/caf\u00e9 1.png"

COLUMN = [
    "a/x/caf\u00e9 1.png?v=3", '"a/x/caf\u00e9 1.png"', '["a/x/caf\u00e9 1.png", "a/x/2.png"]', "files/a/x/caf\u00e9 1.png",
    "//cdn.example.org/a/x/caf\u00e9 1.png", "file:///srv/a/x/caf\u00e9 1.png", "caf\u00e9 1.png", "a/y/../x/caf\u00e9 1.png",
    "a/x/caf\\u00e9 1.png", "a/x/caf\u00e9\u00a01.png", "a/x/caf\u00e9 \uff11.png", "A/X/CAF\u00c9%201", "a/x/caf%C3",
    "a%25252Fx%25252Fcaf\u00e9 1.png", "a/x/caf\u00e9\n1.png", "a/x/caf\u00e9 1.png.", "C:\\data\\a\\x\\caf\u00e9 1.png",
]  # fmt: skip
URL = [
    f"{CDN}y/../a/x/caf\u00e9 1.png", f"{CDN}a/x/caf%C3%A9%201.png;sessionid=3", f"{CDN}cdn-cgi/image/w=80/a/x/caf\u00e9 1.png",
    "https://img.example.net/r?key=a/x/caf%C3%A9%201.png&w=3", "https://img.example.net/#/a/x/caf\u00e9 1.png",
    f'"{CDN}a/x/caf\u00e9 1.png"', f"![x]({CDN}a/x/caf\u00e9 1.png)", f"{CDN}a/2.png,{CDN}a/x/caf\u00e9 1.png",
    "file:///srv/a/x/caf\u00e9 1.png", "https:\\/\\/cdn.example.org\\/a\\/x\\/caf\\u00e9 1.png",
]  # fmt: skip
ENCODED = f"{CDN}a/x/caf%C3%A9%201.png"
TEXT = [
    f"{ENCODED}\u3002\u6b21", f"\u300c{ENCODED}\u300d", f"\u201c{ENCODED}\u201d", f"{ENCODED}\u3067\u3059", f"{ENCODED}&nbsp;x",
    f"{ENCODED}\u00a0x", f"{ENCODED}\u2026", ENCODED.replace("/", "&#x2F;"), ENCODED.removeprefix("https:"),
    json.dumps(json.dumps(ENCODED).replace("/", "\\/")), ENCODED.removeprefix("https://"),
    ENCODED.replace(":", "\\u003a").replace("/", "\\u002f"), "x=" + ENCODED.replace("%", "%25").replace("/", "%252F"),
    f'srcset="//cdn.example.org/a/2.png 1x, {ENCODED.removeprefix("https:")} 2x"',
]  # fmt: skip
JSON = [
    {"key": {KEY: True}}, {"key": [{"x": {KEY: 1}}]}, {"other": KEY}, [{"key": KEY}], {"KEY": KEY}, {"key": {}, "u": KEY},
    {"key": json.dumps([KEY])}, {"key": f"{KEY},a/2.png"}, json.dumps(json.dumps({"key": KEY})),
]  # fmt: skip
PLAIN = "a/x/1.png"
BROKEN = [f'{{"key": "{PLAIN}"', f"{{'key': '{PLAIN}'}}", PLAIN, f'\ufeff{{"key": "{PLAIN}"}}', f"{{{PLAIN},NULL}}"]

CASES: list[tuple[dict[str, str], str, str]] = [
    *(({"column": "v"}, value, KEY) for value in COLUMN),
    *(({"url": "v"}, value, KEY) for value in URL),
    *(({"path": "v"}, value, KEY) for value in [*COLUMN[:11], *URL]),
    *(({"text": "v"}, value, KEY) for value in TEXT),
    *(({"json": "v", "at": "$.key"}, json.dumps(value, ensure_ascii=False), KEY) for value in JSON),
    *((form, value, PLAIN) for form in ({"json": "v", "at": "$.key"}, {"array": "v"}) for value in BROKEN),
    *(({"prefix": "v"}, value, "a/x/1.png") for value in ("a/x/*", f"{CDN}a/x/*.png", '"a/x"', "a/x/1.png")),
    *(({"token": "v"}, value, "a/job1.png") for value in ('"job1"', "{job1}", "b/job1", f"{CDN}b/job1.png")),
]


def compared(world: World, system: System, key: str) -> Diff:
    world.put(key, "a/known")
    for path in (world.folder / "files").rglob("*"):
        os.utime(path, (OLD, OLD))
    world.list_stores(system)
    taken = world.take(system)
    assert taken.verdict == "complete", taken.evidence
    return Diff(world.home, take_orphan_diff(system, world.home, run_id="run"))


def declared(world: World, table: str, form: dict[str, str]) -> System:
    def reference(name: str, **more: Any) -> dict[str, Any]:
        return {"table": name, "object": {"column": "key"}} | more

    protects = bool({"prefix", "token", "text"} & set(form))
    known = reference(table.replace("assets", "known"))
    system = world.system(known, reference(table, object=form, protects_only=protects), drift_scan=True)
    exclusive = {"files": system.stores["files"].model_dump(by_alias=True) | {"scopes": [{"prefix": "a/", "exclusive": True}]}}
    return System.model_validate(system.model_dump(by_alias=True) | {"stores": exclusive})


@pytest.mark.parametrize(("form", "value", "key"), CASES, ids=str)
def test_object_that_a_row_means_in_another_spelling_is_no_orphan(
    tmp_path: Path, form: dict[str, str], value: str, key: str
) -> None:
    world = World(tmp_path)
    quoted = value.replace("'", "''")
    world.sql(
        "CREATE TABLE known (id, key); INSERT INTO known VALUES (1, 'a/known')",
        f"CREATE TABLE assets (id TEXT, v TEXT); INSERT INTO assets VALUES ('1', '{quoted}')",
    )
    assert compared(world, declared(world, "assets", form), key).objects().get(key, "matched") != "orphan_candidate"


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("bytea", f"convert_to('{KEY}', 'UTF8')"),
        ("jsonb", f"to_jsonb('{KEY}'::text)"),
        ("text[]", f"ARRAY['a/2', '{KEY}']"),
    ],
)
def test_key_in_a_column_of_another_type_is_no_orphan(
    tmp_path: Path, pg_database: str, type_name: str, value: str
) -> None:
    world = World(tmp_path, pg_database)
    execute(
        pg_database,
        "CREATE TABLE known (id int, key text); INSERT INTO known VALUES (1, 'a/known')",
        f"CREATE TABLE assets (id int, v {type_name}); INSERT INTO assets VALUES (1, {value})",
    )
    diff = compared(world, declared(world, "public.assets", {"column": "v"}), KEY)
    assert diff.objects().get(KEY, "matched") != "orphan_candidate"


def test_materialized_view_is_no_source(tmp_path: Path, pg_database: str) -> None:
    world = World(tmp_path, pg_database)
    execute(
        pg_database,
        "CREATE TABLE known (id int, key text); INSERT INTO known VALUES (1, 'a/known')",
        "CREATE MATERIALIZED VIEW assets AS SELECT * FROM known",
    )
    taken = world.take(declared(world, "public.assets", {"column": "key"}))
    assert (taken.verdict, taken.reason) == ("refused", "source_unavailable")
    assert "last refresh" in taken.evidence["message"]


def test_object_nobody_means_is_still_an_orphan(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.sql(
        "CREATE TABLE known (id, key); INSERT INTO known VALUES (1, 'a/known')",
        "CREATE TABLE assets (id TEXT, v TEXT); INSERT INTO assets VALUES ('1', 'a/x/other.png?v=3'), ('2', '{broken')",
    )
    diff = compared(world, declared(world, "assets", {"column": "v"}), KEY)
    assert diff.objects()[KEY] == "orphan_candidate"
    assert diff.artefact.verdict == "complete"
