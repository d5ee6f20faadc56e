"""The orphan diff: complete inputs, their order, ages and first sightings (groups A and B)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from maintenance_defs.core.declaration import config_digest
from maintenance_defs.core.errors import ArtefactError, AsOfInTheFuture
from tests.support.diff_world import MINUTE, NOW, OLD, Diff, Obj, Ref, World


def test_object_that_no_row_names_is_an_orphan_candidate_with_its_reason(world: World) -> None:
    diff = world.compare(["a/1", "a/2"], [Ref("a/1")])
    assert diff.objects() == {"a/2": "orphan_candidate"}
    assert diff.object("a/2")["reason"] == (
        "no row of public.assets names it; modified 2025-05-16T12:00:00Z, before the cutoff 2025-06-15T11:00:00Z: "
        "1 h before the evaluation instant (2025-06-15T12:00:00Z)"
    )
    assert diff.rows() == {}
    assert diff.artefact.verdict == "complete"
    assert diff.store()["counts"] == {"matched": 1, "orphan_candidate": 1}
    assert diff.store()["in_scope_objects"] == 2


def test_row_whose_object_is_gone_is_a_missing_candidate(world: World) -> None:
    diff = world.compare(["a/1"], [Ref("a/1", "r1"), Ref("a/2", "r2")])
    assert diff.rows() == {"r2": "missing_candidate"}
    row = diff.row("r2")
    assert (row["key"], row["store"], row["source"]) == ("a/2", "files", "public.assets: column key")
    assert "a/2" in row["reason"]
    assert diff.evidence["rows"]["checked"] == 2


# A: completeness


def test_a01_empty_reference_set_refuses_but_reports(world: World) -> None:
    diff = world.compare([f"a/{n}" for n in range(100)])
    assert diff.artefact.verdict == "refused"
    assert diff.artefact.reason == "empty_reference_set"
    assert diff.store()["counts"] == {"orphan_candidate": 100}


def test_a02_shrunken_references_refuse_and_the_last_good_diff_stays_the_measure(world: World) -> None:
    keys = [f"a/{n:03d}" for n in range(100)]
    assert world.compare(keys, [Ref(key, key) for key in keys]).artefact.verdict == "complete"
    for _ in range(2):  # the second shrunken run must not be measured against the first one
        diff = world.compare(keys, [Ref(key, key) for key in keys[:40]])
        guard = diff.guard("reference_shrink")
        assert (guard["status"], guard["measured"]) == ("refuse", 60.0)
        assert "40 references, 100 in the last good diff" in guard["message"]
        assert diff.artefact.verdict == "refused"
        world.references(verdict="refused", reason="source_unavailable")
        world.diff()  # a failed run in between does not lose the measure


def test_a03_incomplete_listing_gives_no_orphan_and_no_missing_row(world: World) -> None:
    world.inventory(["a/1"])
    world.inventory(verdict="incomplete", reason="incomplete")
    world.references([Ref("a/2")])
    diff = world.diff()
    assert (diff.artefact.verdict, diff.artefact.reason) == ("incomplete", "incomplete")
    assert diff.rows() == {}
    assert not diff.compared()


def test_a05_shrunken_inventory_blocks_missing_claims_only(world: World) -> None:
    keys = [f"a/{n:03d}" for n in range(100)]
    world.compare(keys, [Ref(key, key) for key in keys])
    diff = world.compare([*keys[:88], "a/x"], [Ref(key, key) for key in keys])
    assert diff.guard("inventory_shrink")["status"] == "refuse"
    assert diff.artefact.verdict == "complete"
    assert diff.objects() == {"a/x": "orphan_candidate"}
    assert set(diff.rows().values()) == {"missing_unknown"}
    assert diff.evidence["rows"]["verdict"] == "refused"


def test_a06_unreadable_source_refuses_everything(world: World) -> None:
    world.inventory(["a/1"])
    world.references([Ref("a/1")])
    world.references(verdict="refused", reason="source_unavailable")
    diff = world.diff()
    assert (diff.artefact.verdict, diff.artefact.reason, diff.artefact.uri) == ("refused", "source_unavailable", None)


def test_a13_lagging_replica_bounds_the_cutoff(world: World) -> None:
    world.inventory({"a/1": Obj(modified_at=NOW - 90 * MINUTE), "a/2": Obj(modified_at=NOW - 110 * MINUTE)})
    world.references(is_replica=True, replayed_at="2025-06-15T11:20:00Z")
    diff = world.diff()
    assert diff.objects() == {"a/1": "young", "a/2": "orphan_candidate"}
    assert diff.store()["cutoff"] == "2025-06-15T10:20:00Z"


def test_a13_replica_of_unknown_lag_refuses(world: World) -> None:
    diff = world.compare(["a/1"], [Ref("a/1")], is_replica=True)
    assert (diff.artefact.verdict, diff.artefact.reason) == ("refused", "replica_lag_unknown")


def test_unseen_open_transactions_refuse(world: World) -> None:
    diff = world.compare(["a/1"], [Ref("a/1")], oldest_transaction_known=False)
    assert (diff.artefact.verdict, diff.artefact.reason) == ("refused", "open_transactions_unknown")


def test_oldest_open_transaction_bounds_the_cutoff(world: World) -> None:
    world.inventory({"a/1": Obj(modified_at=NOW - 3 * 60 * MINUTE)})
    world.references([], oldest_transaction_at="2025-06-15T09:00:00Z")
    assert world.diff().objects() == {"a/1": "young"}


def test_a16_inputs_that_are_too_old_refuse(world: World) -> None:
    world.inventory(["a/1"])
    world.references([Ref("a/1")])
    assert world.diff(now=NOW + timedelta(hours=24)).artefact.verdict == "complete"
    diff = world.diff(now=NOW + timedelta(hours=25))
    assert (diff.artefact.verdict, diff.artefact.reason) == ("refused", "stale_inputs")


def test_a16_inventory_that_is_newer_than_the_references_is_not_compared(world: World) -> None:
    world.inventory(["a/1"])
    world.references([Ref("a/1")])
    world.inventory(["a/1", "a/2"])
    diff = world.diff()
    assert (diff.artefact.verdict, diff.artefact.reason) == ("refused", "stale_inputs")
    assert not diff.compared()
    told = diff.store()["message"]
    assert "Nothing was deleted. Take the inventory and then the references again." in told
    assert diff.artefact.evidence["message"] == told  # said once


def test_references_of_another_declaration_are_refused(world: World) -> None:
    world.inventory(["a/1"])
    world.references([Ref("a/1")])
    world.system = world.system.model_copy(update={"description": "changed"})
    assert world.diff().artefact.reason == "stale_inputs"


def test_an_inventory_of_another_declaration_is_refused(world: World) -> None:
    """The store's URL may have been another one then: its objects are nobody's orphans (C24, E06)."""
    world.inventory(["a/1", "a/2"])
    world.system = world.system.model_copy(update={"description": "changed"})
    world.references([Ref("a/1")])
    diff = world.diff()
    assert (diff.artefact.verdict, diff.artefact.reason) == ("refused", "stale_inputs")
    assert "orphan_candidate" not in diff.artefact.evidence["stores"]["files"].get("counts", {})


def test_m01_failed_inventory_is_not_replaced_by_the_one_before(world: World) -> None:
    world.inventory(["a/1"])
    world.references([])
    world.inventory(verdict="refused", reason="store_unreachable")
    diff = world.diff()
    assert (diff.artefact.verdict, diff.artefact.reason) == ("refused", "store_unreachable")
    assert not diff.compared()


def test_missing_reference_file_is_an_error_not_an_empty_set(world: World) -> None:
    world.inventory(["a/1"])
    system, world.system = world.system, world.system.model_copy(update={"references": ()})
    references = world.references()
    world.system = system
    world.home.control.record(replace(references, id="other", config_digest=config_digest(system)))
    with pytest.raises(ArtefactError, match=r"references/files/00.parquet"):
        world.diff()


# B: time


def test_b01_object_and_row_that_came_after_the_listing_are_nothing(world: World) -> None:
    world.inventory(["a/1"])
    world.exists("a/2")
    world.references([Ref("a/1", "r1"), Ref("a/2", "r2")])
    diff = world.diff()
    assert (diff.objects(), diff.rows()) == ({}, {})
    assert diff.evidence["rows"]["appeared"] == 1


def test_b04_object_younger_than_the_upload_window_is_young(world: World) -> None:
    at = NOW - 60 * MINUTE
    diff = world.compare({"a/at": Obj(modified_at=at), "a/before": Obj(modified_at=at - timedelta(microseconds=1))})
    assert diff.objects() == {"a/at": "young", "a/before": "orphan_candidate"}
    assert "not before the cutoff" in diff.object("a/at")["reason"]


def test_b05_object_without_time_is_never_old(world: World) -> None:
    diff = world.compare({"a/1": Obj(modified_at=None)})
    assert diff.objects() == {"a/1": "young"}
    assert "never old" in diff.object("a/1")["reason"]


def test_b06_object_from_the_future_is_young_and_says_both_clocks(world: World) -> None:
    diff = world.compare({"a/1": Obj(modified_at=NOW + 400 * MINUTE)})
    assert diff.objects() == {"a/1": "young"}
    reason = diff.object("a/1")["reason"]
    assert "2025-06-15T18:40:00Z" in reason
    assert "2025-06-15T12:00:00Z" in reason


def test_b11_worker_clock_three_days_ahead_makes_nothing_old(world: World) -> None:
    ahead = NOW + timedelta(days=3)
    world.inventory({"a/1": Obj(modified_at=NOW - MINUTE)}, started_at=ahead, as_of=NOW)
    world.references([], started_at=ahead)
    diff = world.diff(now=ahead)
    assert diff.artefact.as_of == NOW
    assert diff.objects() == {"a/1": "young"}


def test_as_of_by_hand_may_be_earlier_but_not_later_than_the_inputs(world: World) -> None:
    world.inventory({"a/1": Obj(modified_at=OLD)})
    world.references([])
    assert world.diff(as_of=OLD + 30 * MINUTE).objects() == {"a/1": "young"}
    with pytest.raises(AsOfInTheFuture):
        world.diff(as_of=NOW + MINUTE)


def first_seen_of(world: World, key: str) -> tuple[object, int]:
    (row,) = [r for b in world.home.control.findings("shop", "files", key=key) for r in b.to_pylist()]
    return row["first_seen_at"], row["observations"]


def at(world: World, when: datetime, objects: Mapping[str, Obj] | Iterable[str], *rows: Iterable[Ref]) -> Diff:
    world.inventory(objects, started_at=when)
    world.references(*rows, started_at=when)
    return world.diff(now=when)


def test_b13_first_seen_is_kept_over_runs(world: World) -> None:
    for day in range(3):
        at(world, NOW + timedelta(days=day), ["a/1", "a/2"], [Ref("a/1")])
    assert first_seen_of(world, "a/2") == (NOW, 3)


def test_b15_refused_run_does_not_count_as_observation(world: World) -> None:
    keys = [f"a/{n:03d}" for n in range(60)]
    at(world, NOW, keys, [Ref(key) for key in keys[1:]])
    assert first_seen_of(world, keys[0]) == (NOW, 1)
    at(world, NOW + timedelta(days=1), keys, [])
    assert first_seen_of(world, keys[0]) == (NOW, 1)
    world.inventory(verdict="incomplete", reason="incomplete")
    world.references([])
    world.diff()
    assert first_seen_of(world, keys[0]) == (NOW, 1)


def test_ages_that_count_from_the_first_sighting(tmp_path: Path) -> None:
    store = {"scopes": [{"prefix": "a/", "exclusive": True}], "age_by": "first_seen"}
    world = World(tmp_path, stores={"files": store})
    later = [NOW + n * 45 * MINUTE for n in range(3)]
    found = [at(world, when, ["a/1", "a/2"], [Ref("a/1")]) for when in later]
    assert [diff.objects()["a/2"] for diff in found] == ["young", "young", "orphan_candidate"]
    assert "for the first time" in found[0].object("a/2")["reason"]
    assert "unreferenced since 2025-06-15T12:00:00Z" in found[2].object("a/2")["reason"]


def test_b18_rename_during_the_run_loses_neither_key(world: World) -> None:
    # Listed under the old key; copied and the row updated before the snapshot; the old key deleted after it.
    world.inventory(["a/old"])
    world.exists("a/new")
    world.references([Ref("a/new")])
    diff = world.diff()
    assert diff.rows() == {}
    assert diff.objects() == {"a/old": "orphan_candidate"}  # re-verified before any act
