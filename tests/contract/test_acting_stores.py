"""One suite for every store that acts: what is done is exactly what was asked, and the outcome says it truly."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.core.errors import Refused
from maintenance_defs.stores.acting import QUARANTINE, ActingStore, Done, Seen
from maintenance_defs.stores.base import ObjectFacts
from tests.contract.conftest import ODD_KEYS, Bucket, local_subject

RUN = "2026-01-02-run.1"
TRAITS = {
    "ContentType": "image/png",
    "CacheControl": "max-age=60",
    "ContentDisposition": "attachment",
    "Metadata": {"owner": "somebody"},
}


def keys(store: ActingStore) -> list[str]:
    return sorted(str(key) for batch in store.reading.list() for key in batch["key"].to_pylist())


def own(store: ActingStore) -> list[str]:
    return [key for key in keys(store) if key.startswith(".maintenance/")]


def theirs(store: ActingStore) -> list[str]:
    return [key for key in keys(store) if not key.startswith(".maintenance/")]


def see(store: ActingStore, *wanted: str) -> list[Seen]:
    found = store.look(wanted)
    seen = []
    for key in wanted:
        facts = found[key]
        assert isinstance(facts, ObjectFacts), (key, facts)
        seen.append(Seen(key, facts.size_bytes, facts.modified_at, facts.etag))
    return seen


def outcomes(done: list[Done]) -> list[tuple[str, str]]:
    return [(one.key, one.outcome) for one in done]


def test_a_delete_takes_what_was_seen_and_nothing_else(bucket: Bucket) -> None:
    for key in ("in/a", "in/b", "in/ab", "in/d/c" if bucket.subject.name in ("local", "rclone") else "in/a/c"):
        bucket.put(key, key.encode())
    store = bucket.open()
    before = theirs(store)
    assert outcomes(store.delete(see(store, "in/b", "in/a"))) == [("in/b", "deleted"), ("in/a", "deleted")]
    assert theirs(store) == [key for key in before if key not in ("in/a", "in/b")]
    assert not own(store)


@pytest.mark.parametrize("checked", [False, True])
def test_an_absent_object_is_no_failure(bucket: Bucket, checked: bool) -> None:
    bucket.put("in/a", b"x")
    store = bucket.open()
    seen = see(store, "in/a")
    gone = replace(seen[0], key="in/gone/deep")
    done = store.delete([gone, *seen], checked=checked)
    assert done[1].outcome == "deleted"
    assert done[0].outcome in (("already_absent", "deleted") if checked else ("already_absent",))
    assert theirs(store) == []


@pytest.mark.parametrize("act", ["delete", "quarantine"])
@pytest.mark.parametrize(
    "difference",
    [
        {"size_bytes": 6},
        {"modified_at": datetime(2024, 1, 1, tzinfo=UTC)},
        {"etag": "0" * 32},
        {"size_bytes": None},
        {"etag": None, "modified_at": None},
    ],
    ids=["size", "time", "etag", "no-size", "nothing-seen"],
)
def test_what_is_not_what_was_seen_stays(bucket: Bucket, act: str, difference: dict[str, Any]) -> None:
    bucket.put("in/a", b"12345")
    store = bucket.open()
    seen = replace(see(store, "in/a")[0], **difference)
    done = store.delete([seen]) if act == "delete" else store.quarantine([seen], RUN)
    assert done[0].outcome == "skipped_changed"
    assert done[0].detail
    assert keys(store) == ["in/a"]


def test_every_odd_key_goes_alone(bucket: Bucket) -> None:  # C14: another spelling is another object
    possible = sorted(ODD_KEYS - bucket.subject.impossible - {"line\nkey"})
    if bucket.subject.name in ("local", "rclone"):
        slashes = {"a//b", "./dot", "x/../y", "/lead", "dir/", "trail//"}
        possible = [key for key in possible if key not in slashes]
        possible = [key for key in possible if key.isprintable() or bucket.subject.name == "local"]
    for key in possible:
        bucket.put(key, b"x")
    store = bucket.open()
    for part in (possible[0::2], possible[1::4]):
        assert {one.outcome for one in store.delete(see(store, *part), checked=part == possible[0::2])} == {"deleted"}
        possible = [key for key in possible if key not in part]
        assert theirs(store) == sorted(possible)
    done = store.quarantine(see(store, *possible), RUN)
    assert {one.outcome for one in done} == {"quarantined"}, done
    assert theirs(store) == []
    for one in done:
        assert one.undo is not None
        assert store.restore(one.key, one.undo) == Done(one.key, "restored")
    assert theirs(store) == sorted(possible)
    assert own(store) == []


@pytest.mark.parametrize("act", ["delete", "quarantine", "move"])
def test_the_platforms_own_objects_are_never_acted_on(bucket: Bucket, act: str) -> None:  # E07
    bucket.put(".maintenance/archive/a", b"x")
    bucket.put("in/a", b"x")
    store = bucket.open()
    seen = [*see(store, "in/a"), *see(store, ".maintenance/archive/a")]
    with pytest.raises(Refused, match="own"):
        if act == "delete":
            store.delete(seen)
        elif act == "quarantine":
            store.quarantine(seen, RUN)
        else:
            store.move(seen, store, {one.key: one.key for one in seen})
    for ours in (".Maintenance/archive/a", ".MAINTENANCE", ""):  # some stores ignore case
        with pytest.raises(Refused, match="own"):
            store.delete([replace(seen[0], key=ours)])
    with pytest.raises(Refused):
        store.delete([*seen[:1], *seen[:1]])
    with pytest.raises(Refused):
        store.quarantine(seen[:1], "../../in")
    assert keys(store) == [".maintenance/archive/a", "in/a"]


def test_quarantine_restores_bytes_and_everything_that_belongs_to_them(bucket: Bucket, tmp_path: Path) -> None:  # I01
    if bucket.theirs is None or bucket.subject.name == "rclone":  # rclone forgets metadata when it likes
        bucket.put("in/deep/a.png", b"picture")
    else:
        tagging = {} if bucket.subject.name == "swift" else {"Tagging": "kind=draft"}
        bucket.theirs.put_object(Bucket=bucket.name, Key="in/deep/a.png", Body=b"picture", **TRAITS, **tagging)
    store = bucket.open()
    seen = see(store, "in/deep/a.png")
    done = store.quarantine(seen, RUN)[0]
    assert (done.outcome, done.detail) == ("quarantined", None)
    assert done.undo is not None
    assert theirs(store) == []
    if bucket.versioned:
        assert done.undo["kind"] == "marker"
        assert own(store) == []
    else:
        assert done.undo["kind"] == "copy"
        assert own(store) == [f"{QUARANTINE}{RUN}/in/deep/a.png"]
    assert store.restore("in/deep/a.png", done.undo) == Done("in/deep/a.png", "restored")
    assert keys(store) == ["in/deep/a.png"]
    assert bucket.body(store, "in/deep/a.png", tmp_path) == b"picture"
    if bucket.theirs is None:
        assert bucket.subject.name == "azurite" or see(store, "in/deep/a.png") == seen  # the time too
    elif bucket.subject.name != "rclone":
        now = bucket.theirs.head_object(Bucket=bucket.name, Key="in/deep/a.png")
        assert {name: now.get(name) for name in TRAITS} == TRAITS
        if bucket.subject.name != "swift":
            tags = bucket.theirs.get_object_tagging(Bucket=bucket.name, Key="in/deep/a.png")["TagSet"]
            assert tags == [{"Key": "kind", "Value": "draft"}]


def test_the_same_key_quarantined_on_two_days_is_kept_twice(bucket: Bucket, tmp_path: Path) -> None:  # I05
    store = bucket.open()
    undos = []
    for day, body in (("monday", b"first"), ("tuesday", b"other")):
        bucket.put("in/a", body)
        done = store.quarantine(see(store, "in/a"), day)[0]
        assert done.outcome == "quarantined"
        assert done.undo is not None
        undos.append(done.undo)
    if not bucket.versioned:  # two markers lie above each other there: only the upper one can be taken away
        assert store.restore("in/a", undos[0]).outcome == "restored"
        assert bucket.body(store, "in/a", tmp_path) == b"first"
        assert store.restore("in/a", undos[1]).outcome == "failed"
        assert own(store) == [f"{QUARANTINE}tuesday/in/a"]
    else:
        assert store.restore("in/a", undos[0]).outcome == "failed"
        assert store.restore("in/a", undos[1]).outcome == "restored"
        assert bucket.body(store, "in/a", tmp_path) == b"other"


def test_a_restore_never_overwrites(bucket: Bucket, tmp_path: Path) -> None:  # I03
    bucket.put("in/a", b"old one")
    store = bucket.open()
    undo = store.quarantine(see(store, "in/a"), RUN)[0].undo
    assert undo is not None
    bucket.put("in/a", b"new one")
    done = store.restore("in/a", undo)
    assert done.outcome == "failed"
    assert "occupied" in (done.detail or "")
    assert bucket.body(store, "in/a", tmp_path) == b"new one"
    if not bucket.versioned:
        assert len(own(store)) == 1


def test_restoring_twice_is_restoring_once(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("in/a", b"old one")
    store = bucket.open()
    undo = store.quarantine(see(store, "in/a"), RUN)[0].undo
    assert undo is not None
    if not bucket.versioned:
        bucket.put("in/a", b"old one")  # as a crash between copying back and removing the copy leaves it
    assert store.restore("in/a", undo).outcome == "restored"
    assert keys(store) == ["in/a"]
    assert bucket.body(store, "in/a", tmp_path) == b"old one"


def test_a_purge_takes_the_quarantined_copy_and_nothing_else(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("in/a", b"old one")
    bucket.put("in/b", b"other")
    store = bucket.open()
    seen = see(store, "in/a", "in/b")
    done = store.quarantine(seen, RUN)
    assert done[0].undo is not None
    assert done[1].undo is not None
    bucket.put("in/a", b"new one")
    assert store.purge(done[0].undo, replace(seen[0], size_bytes=99)).outcome == "failed"
    assert store.purge(done[0].undo, seen[0]) == Done("in/a", "purged")
    assert store.purge(done[0].undo, seen[0]).outcome == "already_absent"
    assert bucket.body(store, "in/a", tmp_path) == b"new one"
    assert store.restore("in/b", done[1].undo).outcome == "restored"
    if not bucket.versioned:
        with pytest.raises(Refused):
            store.purge({"kind": "copy", "key": "in/a"}, seen[0])
        with pytest.raises(Refused):
            store.purge({"kind": "copy", "key": f"{QUARANTINE}{RUN}/in/b"}, seen[0])
        with pytest.raises(Refused):
            store.restore("in/x", {"kind": "copy", "key": f"{QUARANTINE}{RUN}/../in/x"})
    assert theirs(store) == ["in/a", "in/b"]


@pytest.mark.parametrize(
    "undo",
    [
        {"kind": "copy", "key": f".maintenance/quarantine/{RUN}/in/b"},
        {"kind": "copy", "key": f"elsewhere/{RUN}/in/a"},
        {"kind": "copy", "key": f"{RUN}/in/a"},
        {"kind": "copy", "key": ".maintenance/quarantine/../in/a"},
        {"kind": "moved", "key": f".maintenance/quarantine/{RUN}/in/a"},
        {},
    ],
)
def test_an_undo_that_does_not_name_the_copy_of_its_object_touches_nothing(
    bucket: Bucket, undo: dict[str, str]
) -> None:
    kept = [f".maintenance/quarantine/{RUN}/in/{name}" for name in "ab"]
    for key in ("in/a", "in/b", f"{RUN}/in/a", f"elsewhere/{RUN}/in/a", *kept):
        bucket.put(key, b"x")
    store = bucket.open()
    (seen,) = see(store, "in/a")
    before = keys(store)
    with pytest.raises(Refused, match="names no quarantined copy of it"):
        store.restore("in/a", undo)
    with pytest.raises(Refused, match="names no quarantined copy of it"):
        store.purge(undo, seen)
    assert keys(store) == before


def test_neither_what_is_gone_for_good_nor_what_is_older_comes_back(bucket: Bucket) -> None:  # I02
    bucket.put("in/a", b"older")
    bucket.put("in/a", b"the newer one")
    store = bucket.open()
    seen = see(store, "in/a")
    undo = store.quarantine(seen, RUN)[0].undo
    assert undo is not None
    assert store.purge(undo, seen[0]) == Done("in/a", "purged")
    assert store.restore("in/a", undo).outcome == "already_absent"
    assert theirs(store) == []


def test_what_happened_to_a_marker_by_other_hands_is_not_undone(bucket: Bucket) -> None:  # F01
    """Deleted once more: ours is not on top. Brought back by hand: the version is live, and nothing to purge."""
    if not bucket.versioned:
        return  # no markers there
    bucket.put("in/a", b"x")
    bucket.put("in/b", b"y")
    store = bucket.open()
    seen = see(store, "in/a", "in/b")
    undos = [one.undo for one in store.quarantine(seen, RUN)]
    assert undos[0] is not None and undos[1] is not None
    bucket.theirs.delete_object(Bucket=bucket.name, Key="in/a")
    done = store.restore("in/a", undos[0])
    assert done.outcome == "failed" and "another delete marker is on top" in str(done.detail)
    listed = bucket.theirs.list_object_versions(Bucket=bucket.name, Prefix="in/a")
    assert len(listed["DeleteMarkers"]) == 2
    bucket.theirs.delete_object(Bucket=bucket.name, Key="in/b", VersionId=undos[1]["marker_id"])
    done = store.purge(undos[1], seen[1])
    assert done.outcome == "failed" and "it is live again" in str(done.detail)
    assert theirs(store) == ["in/b"]


def test_another_object_under_the_key_is_not_what_was_restored(bucket: Bucket) -> None:  # I02
    """The copy is gone, by whatever hand; what the application wrote since is not it."""
    bucket.put("in/a", b"x")
    store = bucket.open()
    (seen,) = see(store, "in/a")
    undo = store.quarantine([seen], RUN)[0].undo
    assert undo is not None and store.purge(undo, seen).outcome == "purged"
    bucket.put("in/a", b"another")
    assert store.restore("in/a", undo).outcome in ("already_absent", "failed")


def test_a_quarantine_that_ended_in_the_middle_is_completed_with_one_copy(bucket: Bucket) -> None:  # F16
    bucket.put("in/a", b"x")
    bucket.put("in/b", b"y")
    store = bucket.open()
    seen = see(store, "in/a", "in/b")
    first = store.quarantine(seen[:1], RUN)
    again = bucket.open().quarantine(seen, RUN)  # 'a' was done, and the ledger does not know
    if bucket.versioned:
        assert outcomes(again) == [("in/a", "already_absent"), ("in/b", "quarantined")]
        return
    assert outcomes(again) == [("in/a", "quarantined"), ("in/b", "quarantined")]
    assert again[0].undo == first[0].undo
    assert own(store) == [f"{QUARANTINE}{RUN}/in/a", f"{QUARANTINE}{RUN}/in/b"]


def test_another_content_in_the_quarantine_of_the_run_is_never_overwritten(bucket: Bucket, tmp_path: Path) -> None:
    if bucket.versioned:
        return  # no copies there
    bucket.put("in/a", b"first")
    store = bucket.open()
    store.quarantine(see(store, "in/a"), RUN)
    bucket.put("in/a", b"other")
    done = store.quarantine(see(store, "in/a"), RUN)[0]
    assert done.outcome == "failed"
    assert "occupied" in (done.detail or "")
    assert bucket.body(store, "in/a", tmp_path) == b"other"
    assert bucket.body(store, f"{QUARANTINE}{RUN}/in/a", tmp_path) == b"first"


@pytest.mark.parametrize("count", [60, 1003])
def test_a_bulk_is_looked_at_and_deleted_with_an_outcome_for_each(bucket: Bucket, count: int) -> None:
    if bucket.subject.name in ("swift", "ceph", "rclone", "azurite"):
        count = min(count, 60)  # slow to fill
    names = [f"in/{n:04}" for n in range(count)]
    for key in names:
        bucket.put(key, key.encode())
    store = bucket.open()
    wanted = names[1:-1]
    found = store.look([*wanted, "in/0001x"], dense=True)
    assert found.pop("in/0001x") is None
    single = store.look(wanted[:30])
    seen = []
    for key, facts in found.items():
        assert isinstance(facts, ObjectFacts)
        seen.append(Seen(key, facts.size_bytes, facts.modified_at, facts.etag))
        if key in single:
            alone = single[key]
            assert isinstance(alone, ObjectFacts)
            assert (facts.size_bytes, facts.etag) == (alone.size_bytes, alone.etag)
    assert sorted(one.key for one in seen) == wanted
    done = store.delete(seen, checked=True)
    assert outcomes(done) == [(one.key, "deleted") for one in seen]
    assert theirs(store) == [names[0], names[-1]]
    if bucket.versioned:
        assert done[5].undo is not None
        assert store.restore(done[5].key, done[5].undo).outcome == "restored"
        assert len(theirs(store)) == 3
        assert done[6].undo is not None
        assert store.purge(done[6].undo, seen[6]).outcome == "purged"


def test_a_move_to_another_store_is_read_back_before_the_original_goes(bucket: Bucket, tmp_path: Path) -> None:
    body = bytes(range(256)) * 3000
    bucket.put("in/raw.wav", body)
    bucket.put("in/taken.wav", b"mine")
    store = bucket.open()
    cold = Bucket(local_subject(tmp_path / "cold"))
    cold.put("old/taken.wav", b"else")
    target = cold.open()
    seen = see(store, "in/raw.wav", "in/taken.wav")
    done = store.move(seen, target, {"in/raw.wav": "old/raw.wav", "in/taken.wav": "old/taken.wav"})
    assert outcomes(done) == [("in/raw.wav", "moved"), ("in/taken.wav", "failed")]
    assert theirs(store) == ["in/taken.wav"]
    assert cold.body(target, "old/raw.wav", tmp_path) == body
    assert cold.body(target, "old/taken.wav", tmp_path) == b"else"
    back = target.move(see(target, "old/raw.wav"), store, {"old/raw.wav": "in/raw.wav"})
    assert outcomes(back) == [("old/raw.wav", "moved")]
    assert bucket.body(store, "in/raw.wav", tmp_path) == body
    changed = replace(see(store, "in/raw.wav")[0], size_bytes=1)
    assert store.move([changed], target, {"in/raw.wav": "old/x"})[0].outcome == "skipped_changed"
    assert "old/x" not in keys(target)


def test_a_move_that_could_only_lose_something_is_refused(bucket: Bucket) -> None:  # E07
    """Within one store the copy is the original; of two objects under one key one is gone."""
    bucket.put("in/a", b"x")
    bucket.put("in/b", b"x")
    store = bucket.open()
    seen = see(store, "in/a", "in/b")
    with pytest.raises(Refused, match="not moved within one store"):
        store.move(seen, bucket.open(), {"in/a": "in/a", "in/b": "in/b"})
    for wrong in ({"in/a": "in/c", "in/b": "in/c"}, {"in/a": ".maintenance/a", "in/b": "in/d"}):
        with pytest.raises(Refused, match="to one key, or one to a key of the platform's own"):
            store.move(seen, bucket.open(), wrong)
    assert theirs(store) == ["in/a", "in/b"]


def test_a_later_change_of_the_time_alone_is_a_change(bucket: Bucket) -> None:
    """The same bytes uploaded again: somebody needs them."""
    bucket.put("in/a", b"x")
    store = bucket.open()
    seen = see(store, "in/a")[0]
    assert seen.modified_at is not None
    old = replace(seen, modified_at=seen.modified_at - timedelta(seconds=2))
    assert outcomes([*store.delete([old]), *store.quarantine([old], RUN)]) == [("in/a", "skipped_changed")] * 2


def test_what_a_killed_run_put_away_is_found_with_its_undo(bucket: Bucket, tmp_path: Path) -> None:
    """hazard: F16"""
    bucket.put("in/a", b"picture")
    store = bucket.open()
    (seen,) = see(store, "in/a")
    assert store.quarantine([seen], RUN)[0].outcome == "quarantined"  # … and nobody wrote it down
    found = bucket.open().after_crash(seen, RUN)
    assert found.outcome == "quarantined"
    assert found.undo is not None
    assert store.restore("in/a", found.undo) == Done("in/a", "restored")
    assert bucket.body(store, "in/a", tmp_path) == b"picture"


@pytest.mark.parametrize("taken", [False, True])
def test_what_somebody_else_removed_is_not_said_to_be_in_quarantine(bucket: Bucket, taken: bool) -> None:
    """taken: another content lies where this run would keep it."""
    bucket.put("in/a", b"x")
    if taken:
        bucket.put(f".maintenance/quarantine/{RUN}/in/a", b"another")
    store = bucket.open()
    (seen,) = see(store, "in/a")
    if bucket.versioned:
        bucket.put("in/a", b"other")
    assert store.delete(see(store, "in/a"))[0].outcome == "deleted"
    assert store.after_crash(seen, RUN).outcome == "already_absent"
