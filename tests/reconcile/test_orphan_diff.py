"""The diff on hand-made artefacts: each hazard by its number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from maintenance_defs.core.declaration import config_digest
from maintenance_defs.core.errors import ArtefactError, AsOfInTheFuture, StoreDenied
from maintenance_defs.stores.local import LocalStore
from tests.support.diff_world import MINUTE, NOW, OLD, Diff, Loose, Obj, Ref, World, column


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


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


def test_references_of_another_declaration_are_refused(world: World) -> None:
    world.inventory(["a/1"])
    world.references([Ref("a/1")])
    world.system = world.system.model_copy(update={"description": "changed"})
    assert world.diff().artefact.reason == "stale_inputs"


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


# C: identity


def test_c06_url_on_an_undeclared_host_protects_the_object_it_ends_in(world: World) -> None:
    loose = [Loose(0, "external", "cdn/v2/a/b.png", "r9", None, "img.example.com")]
    diff = world.compare(["a/b.png", "a/c.png", "a/d/b.png"], [Ref("a/c.png")], loose=loose)
    assert diff.objects() == {"a/b.png": "ambiguous", "a/d/b.png": "orphan_candidate"}
    assert diff.rows() == {"r9": "unresolvable_reference"}
    assert "img.example.com" in diff.row("r9")["reason"]
    guard = diff.guard("unresolvable_references", None)
    assert (guard["status"], guard["measured"]) == ("warn", 1)


def test_c06_url_on_an_undeclared_host_that_ends_in_a_matched_key_is_unresolvable_too(world: World) -> None:
    loose = [Loose(0, "external", "cdn/a/b.png", "r9", None, "img.example.com")]
    diff = world.compare(["a/b.png"], [Ref("a/b.png")], loose=loose)
    assert (diff.objects(), diff.rows()) == ({}, {"r9": "unresolvable_reference"})


NFC, NFD = "a/caf\u00e9.png", "a/cafe\u0301.png"


@pytest.mark.parametrize(("key", "named"), [(NFC, NFD), (NFD, NFC)])
def test_c10_normalisation_twin_is_protected(world: World, key: str, named: str) -> None:
    diff = world.compare([key], [Ref(named)])
    assert diff.objects() == {key: "ambiguous"}
    assert diff.object(key)["near_miss"] == named
    assert "normalisation" in diff.object(key)["reason"]


def test_c10_twin_of_an_object_that_is_referenced_itself_is_protected(world: World) -> None:
    assert world.compare([NFC, NFD], [Ref(NFC)]).objects() == {NFD: "ambiguous"}


@pytest.mark.parametrize("both", [False, True])
def test_c11_case_twin_is_protected(world: World, both: bool) -> None:
    diff = world.compare(["a/photo.jpg", *(["a/Photo.JPG"] if both else [])], [Ref("a/Photo.JPG")])
    assert diff.objects() == {"a/photo.jpg": "ambiguous"}
    assert "case twin of a/Photo.JPG" in diff.object("a/photo.jpg")["reason"]


def test_c11_case_is_more_than_ascii(world: World) -> None:
    assert world.compare(["a/\u00e4pfel"], [Ref("a/\u00c4pfel")]).objects() == {"a/\u00e4pfel": "ambiguous"}


@pytest.mark.parametrize("named", ["a/1 ", "a/1\n", " a/1", "a/1\u200b", "\u00a0a/1", "a/\ufeff1"])
def test_c12_padded_reference_protects(world: World, named: str) -> None:
    diff = world.compare(["a/1"], [Ref(named)])
    assert diff.objects() == {"a/1": "ambiguous"}
    assert "padding twin" in diff.object("a/1")["reason"]


def test_c21_key_in_another_store_is_no_reference_to_this_one(tmp_path: Path) -> None:
    scope = [{"prefix": "a/", "exclusive": True}]
    reference = column() | {"store": ["files", "other"], "object": {"url": "url"}}
    world = World(tmp_path, stores={"files": {"scopes": scope}, "other": {"scopes": scope}}, references=[reference])
    for store in ("files", "other"):
        world.inventory(["a/1"], store)
    world.references([Ref("a/1", store="other")])
    diff = world.diff()
    assert diff.objects("files") == {"a/1": "orphan_candidate"}
    assert diff.objects("other") == {}


# D: references


def test_d03_third_table_protects(tmp_path: Path) -> None:
    world = World(tmp_path, references=[column("t1"), column("t2"), column("t3", protects_only=True)])
    diff = world.compare(["a/1", "a/2"], [], [], [Ref("a/1")])
    assert diff.objects() == {"a/2": "orphan_candidate"}


def test_d04_rows_without_key_are_listed_and_hide_no_orphan(world: World) -> None:
    diff = world.compare(["a/1", "a/2"], [Ref("a/1")], loose=[Loose(0, "no_key", row_id="r9", store=None)])
    assert diff.objects() == {"a/2": "orphan_candidate"}
    assert diff.rows() == {"r9": "no_key"}


def test_d05_shared_object_is_a_candidate_only_after_its_last_row_is_gone(world: World) -> None:
    rows = [Ref("a/1", f"r{n}") for n in range(3)]
    assert [world.compare(["a/1", "a/2"], [Ref("a/2"), *rows[n:]]).objects() for n in range(4)] == [
        {}, {}, {}, {"a/1": "orphan_candidate"},
    ]  # fmt: skip


def test_d06_folder_reference_protects_what_lies_below_it_only(world: World) -> None:
    objects = ["a/1/x.ts", "a/1/deep/y.ts", "a/10/x.ts", "a/1x"]
    diff = world.compare(objects, [], loose=[Loose(0, "prefix", "a/1/")])
    assert diff.objects() == {"a/10/x.ts": "orphan_candidate", "a/1x": "orphan_candidate"}
    assert diff.store()["counts"]["matched"] == 2


def test_token_protects_segment_and_stem_and_loosely_only_makes_ambiguous(world: World) -> None:
    objects = ["a/job7/x", "a/job7.mp4", "a/xjob7.mp4", "a/JOB7.mp4"]
    diff = world.compare(objects, [], loose=[Loose(0, "token", "job7")])
    assert diff.objects() == {"a/JOB7.mp4": "ambiguous", "a/xjob7.mp4": "orphan_candidate"}


def test_d12_undeclared_column_protects_and_warns(world: World) -> None:
    loose = [Loose(None, "undeclared", "a/1", "", reason="public.stats.file")]
    diff = world.compare(["a/1", "a/2"], [Ref("a/2")], loose=loose)
    assert diff.objects() == {"a/1": "ambiguous"}
    assert "public.stats.file" in diff.object("a/1")["reason"]
    assert diff.guard("undeclared_references", None)["status"] == "warn"


def test_truncated_reference_protects_what_begins_with_it(world: World) -> None:
    diff = world.compare(["a/long-name.pdf", "a/lo.pdf"], [Ref("a/long-na", "r1"), Ref("a/lo.pdf", "r2")])
    assert diff.objects() == {"a/long-name.pdf": "ambiguous"}


# E: scope


def test_e01_scope_ends_at_a_segment(tmp_path: Path) -> None:
    world = World(tmp_path, scopes=[{"prefix": "images/", "exclusive": True}])
    diff = world.compare(["images", "images/1", "images-old/1", "images2/1"])
    assert diff.objects() == {"images/1": "orphan_candidate"}


def test_e02_object_outside_every_scope_is_counted_only(world: World) -> None:
    diff = world.compare(["a/1", "b/1", "b/2"], [Ref("a/1"), Ref("b/2")])
    assert diff.objects() == {}
    assert diff.store()["counts"] == {"matched": 2, "out_of_scope": 1}
    assert diff.store()["in_scope_objects"] == 1


def test_e03_object_that_fits_no_pattern_is_protected(tmp_path: Path) -> None:
    world = World(tmp_path, scopes=[{"prefix": "a/", "exclusive": True, "patterns": ["a/{n}.pdf", "a/b/{n}.png"]}])
    diff = world.compare(["a/1.pdf", "a/1.PDF", "a/b/c/1.png", "a/b/1.png", "a/1.pdf.bak"])
    assert diff.objects() == {
        "a/1.pdf": "orphan_candidate", "a/b/1.png": "orphan_candidate",
        "a/1.PDF": "unrecognised", "a/b/c/1.png": "unrecognised", "a/1.pdf.bak": "unrecognised",
    }  # fmt: skip


def test_e05_scope_that_is_not_exclusive_has_no_candidates(tmp_path: Path) -> None:
    world = World(tmp_path, scopes=[{"prefix": "a/", "exclusive": True}, {"prefix": "b/"}])
    diff = world.compare(["a/1", "b/1"])
    assert diff.objects() == {"a/1": "orphan_candidate", "b/1": "ambiguous"}
    assert "not declared exclusive" in diff.object("b/1")["reason"]


def test_e06_other_database_with_the_same_store_refuses(world: World) -> None:
    assert world.compare(["a/1"], [Ref("a/1")]).artefact.verdict == "complete"
    diff = world.compare(["a/1"], [Ref("a/1")], identity="staging")
    assert (diff.artefact.verdict, diff.artefact.reason) == ("refused", "pair_changed")
    world.inventory(["a/1"], identity="elsewhere")
    world.references([Ref("a/1")])
    assert world.diff().artefact.reason == "pair_changed"


def test_e07_own_objects_are_in_no_scope(tmp_path: Path) -> None:
    world = World(tmp_path, scopes=[{"prefix": "", "exclusive": True}])
    diff = world.compare([".maintenance/quarantine/1", "1"])
    assert diff.objects() == {"1": "orphan_candidate"}
    assert diff.store()["counts"]["out_of_scope"] == 1


def test_e12_empty_mount_refuses_both_directions(world: World) -> None:
    diff = world.compare([], [Ref("a/1", "r1")])
    assert diff.artefact.verdict == "refused"
    assert diff.guard("mass_missing")["status"] == "refuse"
    assert diff.guard("orphan_ratio")["status"] == "refuse"
    assert diff.rows() == {"r1": "missing_unknown"}


# F: stores


def test_f03_multipart_upload_is_no_object_and_no_orphan(world: World) -> None:
    world.inventory(["a/1", "a/2"], uploads=[("a/2", OLD), ("a/3", OLD)])
    world.references([Ref("a/1")])
    diff = world.diff()
    assert diff.objects() == {"a/2": "in_progress", "a/3": "in_progress"}
    assert diff.store()["counts"] == {"matched": 1, "in_progress": 2}


def test_f03_finished_object_of_an_uploaded_key_stays_matched(world: World) -> None:
    world.inventory(["a/1"], uploads=[("a/1", OLD)])
    world.references([Ref("a/1")])
    diff = world.diff()
    assert diff.store()["counts"] == {"matched": 1, "in_progress": 1}
    assert diff.rows() == {}


def test_f05_directory_marker_is_no_candidate(world: World) -> None:
    diff = world.compare({"a/x/": Obj(0), "a/y/": Obj(0, mark="directory_marker"), "a/z/": Obj(5)})
    assert diff.objects() == {"a/x/": "directory_marker", "a/y/": "directory_marker", "a/z/": "orphan_candidate"}


def test_unaddressable_name_is_never_a_candidate(world: World) -> None:
    assert world.compare({"a/\\xff": Obj(mark="unaddressable")}).objects() == {"a/\\xff": "unaddressable"}


def test_f20_denied_head_is_unknown_not_absent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: LocalStore, key: str) -> None:
        raise StoreDenied("403")

    monkeypatch.setattr(LocalStore, "head", denied)  # a real folder denies nothing to root
    diff = world.compare(["a/1"], [Ref("a/1", "r1"), Ref("a/2", "r2")])
    assert diff.rows() == {"r2": "missing_unknown"}
    assert "denied" in diff.row("r2")["reason"]


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
    assert diff.store("other") == {
        "verdict": "incomplete", "reason": "incomplete", "message": "the last listing of store 'other' failed.",
    }  # fmt: skip


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
