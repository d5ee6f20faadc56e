"""Lists: exact keys in every format, safe for shells, whole or not at all."""

import csv
import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import World, make_world

ODD = [
    "=1+1_x.png",
    "+x_y.png",
    "-rf_y.png",
    "@x_y.png",
    'qu"o_te.png',
    "com,ma_x.png",
    "bl ank_'x'.png",
    "new\nline_x.png",
    "ü$(x)_`y`.png",
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, set[str]]]:
    """A world with odd keys, reconciled, and all its orphans."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("odd")
        world = make_world("colouring", "pages", "2024-01-15T03:00:00Z", folder, monkeypatch)
        keys = {f"assets/lion/{name}" for name in ODD}
        for key in keys:
            world.put(key)
        world.report()
        yield world, keys | {f"assets/{animal}/pl_preview.png" for animal in ("lion", "cat", "dog")}


def test_csv_has_the_three_orphans(colouring: World, tmp_path: Path) -> None:
    target = tmp_path / "orphans.csv"
    done = colouring.report("--export", str(target))
    assert done.stderr == f"3 items written to {target}.\n"
    lines = target.read_text().splitlines()
    assert lines[0] == "key,size,last_modified,reason,first_seen"
    rows = list(csv.reader(lines[1:]))
    assert [(row[0], row[1], row[2], row[4]) for row in rows] == [
        ("assets/lion/pl_preview.png", "180224", "2024-01-14T18:20:00Z", "2024-01-15T03:00:00Z"),
        ("assets/cat/pl_preview.png", "180224", "2024-01-14T09:05:00Z", "2024-01-15T03:00:00Z"),
        ("assets/dog/pl_preview.png", "180224", "2024-01-13T21:40:00Z", "2024-01-15T03:00:00Z"),
    ]
    assert all("no row of assets names it" in row[3] for row in rows)


def test_r2_and_wrangler_lines(reconciled: World) -> None:
    r2 = reconciled.run("report", "--last", "--format", "r2").stdout.splitlines()
    assert r2[0] == "r2 object delete colouring-pages-assets assets/lion/pl_preview.png"
    assert len(r2) == 3
    wrangler = reconciled.run("report", "--last", "--format", "wrangler").stdout.splitlines()
    assert wrangler[0] == "wrangler r2 object delete colouring-pages-assets/assets/lion/pl_preview.png"


def test_odd_keys_survive_csv(odd: tuple[World, set[str]]) -> None:
    world, keys = odd
    text = world.run("report", "--last", "--format", "csv").stdout_bytes.decode()
    assert {row["key"] for row in csv.DictReader(io.StringIO(text, newline=""))} == keys


def test_odd_keys_survive_the_shell(odd: tuple[World, set[str]]) -> None:
    world, keys = odd
    words = shlex.split(world.run("report", "--last", "--format", "r2").stdout_bytes.decode())
    assert set(words[4::5]) == keys
    words = shlex.split(world.run("report", "--last", "--format", "wrangler").stdout_bytes.decode())
    assert {word.removeprefix("colouring-pages-assets/") for word in words[4::5]} == keys


def test_odd_keys_survive_json_and_parquet(odd: tuple[World, set[str]], tmp_path: Path) -> None:
    world, keys = odd
    lines = world.run("report", "--last", "--format", "json").stdout_bytes.decode().split("\n")[:-1]
    assert {json.loads(line)["key"] for line in lines} == keys
    world.run("report", "--last", "--format", "parquet", "--export", str(tmp_path / "x.parquet"))
    table = pq.read_table(tmp_path / "x.parquet")
    assert set(table["key"].to_pylist()) == keys
    assert table.schema.field("first_seen_at").type == table.schema.field("modified_at").type


def test_first_seen_stays_when_it_is_seen_again(colouring: World) -> None:
    colouring.run("reconcile", "--as-of", "2024-01-15T00:00:00Z")
    colouring.report()
    text = colouring.run("report", "--last", "--format", "csv").stdout
    assert {row["first_seen"] for row in csv.DictReader(io.StringIO(text))} == {"2024-01-15T00:00:00Z"}


def test_rows_can_be_listed_too(colouring: World) -> None:
    (colouring.store / "assets/owl/en_page.pdf").unlink()
    colouring.report()
    text = colouring.run("report", "--last", "--format", "json", "--item", "missing_candidate").stdout
    assert [json.loads(line)["key"] for line in text.splitlines()] == ["assets/owl/en_page.pdf"]


def test_an_unknown_class_is_refused(reconciled: World) -> None:
    done = reconciled.run("report", "--last", "--item", "orphans")
    assert done.exit_code == 2
    assert "Known: orphan_candidate" in done.stderr


@pytest.mark.parametrize("form", ["r2", "wrangler"])
def test_delete_commands_are_refused_while_a_guard_refuses(colouring: World, tmp_path: Path, form: str) -> None:
    colouring.sql("DELETE FROM assets")
    colouring.report()
    target = tmp_path / "delete.sh"
    done = colouring.run("report", "--last", "--format", form, "--export", str(target))
    assert done.exit_code == 3
    assert "Nothing was written" in done.stderr
    assert not target.exists()


def test_delete_commands_are_never_written_for_protected_objects(colouring: World) -> None:
    colouring.put("assets/notes.txt")
    colouring.report()
    done = colouring.run("report", "--last", "--format", "r2", "--item", "unrecognised")
    assert done.exit_code == 3
    assert "notes.txt" not in done.stdout
