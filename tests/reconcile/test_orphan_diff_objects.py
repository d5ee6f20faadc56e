"""The orphan diff: which object is what (groups C to F)."""

from __future__ import annotations

from pathlib import Path

import pytest

from maintenance_defs.core.errors import StoreDenied
from maintenance_defs.stores.local import LocalStore
from tests.support.diff_world import OLD, Loose, Obj, Ref, World, column

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
