"""The orphan diff: rows without object, and guards (groups G and J)."""

from __future__ import annotations

from pathlib import Path

import pytest

from maintenance_defs.stores.local import LocalStore
from tests.support.diff_world import Loose, Obj, Ref, World, column

# G, J: guards and rows


def test_g03_small_population_is_no_ratio_but_none_at_all_is_refused(world: World) -> None:
    keys = [f"a/{n}" for n in range(6)]
    assert world.compare(keys, [Ref(key) for key in keys[:3]]).artefact.verdict == "complete"
    diff = world.compare([], [])  # from some to none is never small
    assert diff.guard("reference_shrink")["status"] == "refuse"
    assert diff.artefact.verdict == "refused"


def test_store_that_is_empty_and_unused_blocks_nothing_but_one_that_rows_name_does(world: World) -> None:
    diff = world.compare([], [])
    assert (diff.guard("orphan_ratio")["status"], diff.artefact.verdict) == ("warn", "complete")
    diff = world.compare([], [Ref("a/1")])
    assert (diff.guard("orphan_ratio")["status"], diff.artefact.verdict) == ("refuse", "refused")


def test_implausible_orphan_ratio_refuses(world: World) -> None:
    keys = [f"a/{n:03d}" for n in range(100)]
    assert world.compare(keys, [Ref(key) for key in keys[30:]]).artefact.verdict == "complete"
    diff = world.compare(keys, [Ref(key) for key in keys[31:]])
    assert (diff.artefact.verdict, diff.artefact.reason) == ("refused", "orphan_ratio")


def test_j01_row_missing_in_two_runs_is_confirmed(world: World) -> None:
    keys = [f"a/{n}" for n in range(3)]
    items = [world.compare(keys[1:], [Ref(key, key) for key in keys]).rows() for _ in range(2)]
    assert items == [{"a/0": "missing_candidate"}, {"a/0": "missing_confirmed"}]


def test_j01_refused_run_confirms_nothing(world: World) -> None:
    keys = [f"a/{n}" for n in range(3)]
    world.compare(keys[1:], [Ref(key, key) for key in keys], oldest_transaction_known=False)
    assert world.compare(keys[1:], [Ref(key, key) for key in keys]).rows() == {"a/0": "missing_candidate"}


def test_j02_mass_missing_refuses_before_any_head(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(LocalStore, "head", lambda self, key: asked.append(key))
    keys = [f"a/{n:03d}" for n in range(100)]
    diff = world.compare(keys[31:], [Ref(key, key) for key in keys])
    assert (diff.artefact.verdict, diff.artefact.reason) == ("refused", "mass_missing")
    assert asked == []
    assert set(diff.rows().values()) == {"missing_unknown"}


def test_j03_row_in_progress_is_not_missing(world: World) -> None:
    diff = world.compare(["a/1"], [Ref("a/1"), Ref("a/2", "r2", in_progress=True)])
    assert diff.rows() == {"r2": "row_in_progress"}


@pytest.mark.parametrize(
    ("has", "says", "item"),
    [
        (0, [None], "corrupt_candidate"),
        (0, [0], None),
        (0, [0, None], None),
        (0, [5], "corrupt_candidate"),
        (9, [10], "corrupt_candidate"),
        (9, [9, 10], "corrupt_candidate"),
        (9, [9], None),
        (9, [None], None),
        (None, [10], None),
    ],
)
def test_j04_empty_or_differently_sized_object_is_corrupt(
    world: World, has: int | None, says: list[int | None], item: str | None
) -> None:
    diff = world.compare({"a/1": Obj(has)}, [Ref("a/1", f"r{n}", size) for n, size in enumerate(says)])
    assert diff.objects() == ({"a/1": item} if item else {})
    assert diff.rows() == {}
    assert sum(diff.store()["counts"].values()) == 1


def test_j05_row_of_another_site_is_external(world: World) -> None:
    loose = [Loose(0, "external", "x/y.png", "r9", None, "elsewhere.example")]
    diff = world.compare(["a/1"], [Ref("a/1")], loose=loose)
    assert diff.rows() == {"r9": "external_reference"}
    assert "elsewhere.example" in diff.row("r9")["reason"]


def two_ways(tmp_path: Path) -> World:
    second = column("public.assets") | {"object": {"template": "a/final/{id}.wav"}}
    return World(tmp_path, references=[column("public.assets"), second, column("public.music", protects_only=True)])


def test_row_is_missing_only_when_none_of_its_keys_exists(tmp_path: Path) -> None:
    diff = two_ways(tmp_path).compare(
        ["a/raw/1", "a/final/2.wav"],
        [Ref("a/raw/1", "1"), Ref("a/raw/2", "2"), Ref("a/raw/3", "3")],
        [Ref("a/final/1.wav", "1"), Ref("a/final/2.wav", "2"), Ref("a/final/3.wav", "3")],
        [Ref("a/music", "1")],
    )
    assert diff.rows() == {"3": "missing_candidate"}
    assert "a/final/3.wav, a/raw/3" in diff.row("3")["reason"]
    assert diff.evidence["rows"]["checked"] == 3


def test_row_whose_other_key_lies_in_a_store_that_could_not_be_listed_is_not_missing(tmp_path: Path) -> None:
    scope = [{"prefix": "a/", "exclusive": True}]
    world = World(
        tmp_path,
        stores={"files": {"scopes": scope}, "other": {"scopes": scope}},
        references=[column(), column() | {"store": "other"}],
    )
    world.inventory(["a/1"])
    world.inventory(store="other", verdict="incomplete", reason="incomplete")
    world.references([Ref("a/2", "r2"), Ref("a/1", "r1")], [Ref("a/2", "r2", store="other")])
    diff = world.diff()
    assert diff.rows() == {}
    assert (diff.artefact.verdict, diff.store()["verdict"]) == ("incomplete", "complete")
    other = diff.store("other")
    assert (other["verdict"], other["reason"]) == ("incomplete", "incomplete")
    assert other["message"].startswith("the last listing of store 'other' failed. Nothing was concluded")


def test_key_that_appeared_saves_the_whole_row(tmp_path: Path) -> None:
    world = two_ways(tmp_path)
    world.inventory(["a/x"])
    world.exists("a/final/1.wav")
    world.references([Ref("a/raw/1", "1"), Ref("a/x", "2")], [Ref("a/final/1.wav", "1")])
    assert world.diff().rows() == {}


def test_systematic_prefix_is_named(world: World) -> None:
    keys = [f"{n:03d}.pdf" for n in range(20)]
    diff = world.compare([f"a/{key}" for key in keys], [Ref(key, key) for key in keys])
    guard = diff.guard("systematic_prefix")
    assert guard["status"] == "refuse"
    assert guard["measured"] == "'a/' / ''"
    assert diff.artefact.verdict == "refused"


def test_check_that_requires_an_object_counts_the_rows_without(tmp_path: Path) -> None:
    check = {"describe": "ready without file", "table": "t", "id": "id", "requires": {"column": "k"}, "store": "files"}
    world = World(tmp_path, checks={"ready": check})
    wanted = {"ready": [Ref("a/1", "1"), Ref("a/2", "2")]}
    diff = world.compare(["a/1"], [Ref("a/1")], checks=wanted)
    assert diff.evidence["checks"]["ready"]["count"] == 1
    assert diff.evidence["checks"]["ready"]["sample"] == [{"row_id": "2", "key": "a/2"}]


def test_store_that_no_reference_names_is_not_compared(tmp_path: Path) -> None:
    scope = [{"prefix": "a/", "exclusive": True}]
    world = World(tmp_path, stores={"files": {"scopes": scope}, "cache": {"scopes": scope}})
    world.inventory(["a/1"], "cache")
    diff = world.compare(["a/1"], [Ref("a/1")])
    assert list(diff.evidence["stores"]) == ["files"]
    assert diff.artefact.verdict == "complete"
