"""What a run leaves behind for the next one."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.database import Control
from maintenance_defs.core.errors import ArtefactError

from .conftest import NOON

Make = Callable[..., Artefact]


def test_an_artefact_reads_back_as_it_was_recorded(control: Control, artefact: Make) -> None:
    written = artefact(
        as_of=datetime(2026, 7, 1, 14, 0, 0, 123456, timezone(timedelta(hours=2))),
        verdict="refused", reason="empty_reference_set", uri="file:///x", row_count=2**40, size_bytes=2**41,
        digest="ab", evidence={"counts": {"a": 1}, "text": "\0\udc80é"}, config_digest="c", inputs=("1", "2"),
    )  # fmt: skip
    control.record(written)
    read = control.get(written.id)
    assert read == written
    assert read.as_of.tzinfo is not None and read.as_of.utcoffset() == timedelta(0)


def test_a_failed_attempt_never_becomes_the_latest_complete(control: Control, artefact: Make) -> None:
    """A03."""
    good, bad = artefact(), artefact(verdict="incomplete", reason="listing", as_of=NOON + timedelta(days=1))
    control.record(good)
    control.record(bad)
    assert control.latest("shop", "orphan_diff", verdict="complete") == good
    assert control.latest("shop", "orphan_diff") == bad


def test_the_newest_is_the_one_recorded_last_whatever_its_times_say(control: Control, artefact: Make) -> None:
    first = artefact(as_of=NOON + timedelta(days=9), ended_at=NOON + timedelta(days=9))
    second = artefact()
    control.record(first)
    control.record(second)
    assert control.latest("shop", "orphan_diff") == second
    assert control.history("shop", "orphan_diff") == [second, first]
    assert control.history("shop", "orphan_diff", limit=1) == [second]


def test_attempts_tell_why_they_failed_whatever_text_stands_in_the_evidence(control: Control, artefact: Make) -> None:
    control.record(artefact(evidence={"text": "\0\udc80é"}))
    control.record(
        artefact(verdict="incomplete", reason="throttled", evidence={"text": "\0", "message": "Łódź said 503"})
    )
    failed, fine = control.attempts("shop", "orphan_diff", "")
    assert (failed.verdict, failed.reason, failed.message) == ("incomplete", "throttled", "Łódź said 503")
    assert (fine.verdict, fine.message) == ("complete", None)


def test_complete_ones_of_some_days_are_found_by_their_instants(control: Control, artefact: Make) -> None:
    """K14; whatever text stands in the evidence."""

    def add(days_ago: int, **more: object) -> Artefact:
        made = artefact(as_of=NOON - timedelta(days=days_ago), evidence={"text": "\0\udc80é"}, **more)
        control.record(made)
        return made

    old, older = add(3), add(5)
    add(4, verdict="incomplete")
    add(9)
    now = add(0)
    later = add(2)
    days = (NOON - timedelta(days=5), NOON - timedelta(days=1))
    found = control.complete_between("shop", "orphan_diff", "", *days, before=now.id)
    assert found == [(older.as_of, older.id), (old.as_of, old.id)]
    assert control.complete_between("shop", "orphan_diff", "", *days) == [*found, (later.as_of, later.id)]
    assert control.newest_until("shop", "orphan_diff", "", NOON - timedelta(days=1)) == later
    assert control.newest_until("shop", "orphan_diff", "", NOON - timedelta(days=10)) is None


def test_systems_kinds_and_names_are_kept_apart(control: Control, artefact: Make) -> None:
    control.record(artefact(kind="inventory", name="files"))
    assert control.latest("shop", "inventory", "file") is None
    assert control.latest("shop", "inventory") is None
    assert control.latest("shop2", "inventory", "files") is None


def test_an_artefact_is_written_once(control: Control, artefact: Make) -> None:
    written = artefact()
    control.record(written)
    with pytest.raises(ArtefactError, match="recorded already"):
        control.record(artefact(id=written.id, verdict="refused"))
    assert control.get(written.id).verdict == "complete"


def test_an_unknown_artefact_is_an_error(control: Control) -> None:
    with pytest.raises(ArtefactError, match="not recorded"):
        control.get("nothing")


def test_a_time_without_zone_is_not_stored(control: Control, artefact: Make) -> None:
    with pytest.raises(Exception, match="no time zone"):
        control.record(artefact(as_of=datetime(2026, 7, 1)))


def test_evidence_that_is_no_json_is_not_stored(control: Control, artefact: Make) -> None:
    with pytest.raises(Exception, match=r"JSON compliant|not JSON serializable"):
        control.record(artefact(evidence={"ratio": float("nan")}))


def test_another_pair_of_database_and_store_is_noticed(control: Control) -> None:
    """E06."""
    assert control.check_pair("shop", "files", "db1+bucket1") is None
    assert control.check_pair("shop", "files", "db1+bucket1") is None
    assert control.check_pair("shop", "files", "db2+bucket1") == "db1+bucket1"
    assert control.check_pair("shop", "files", "db2+bucket1") == "db1+bucket1", "refusing registers nothing"
    assert control.check_pair("shop", "thumbs", "db2+bucket1") is None


def test_two_first_runs_at_once_register_one_pair(control: Control) -> None:
    start = threading.Barrier(6)

    def register(n: int) -> str | None:
        start.wait()
        return control.check_pair("shop", "files", f"db{n}")

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(register, range(6)))
    first = answers.index(None)
    assert answers == [None if n == first else f"db{first}" for n in range(6)]


def test_another_pair_is_accepted_only_with_actor_and_reason(control: Control) -> None:
    control.check_pair("shop", "files", "old")
    for actor, reason in (("", "moved"), ("ada", " ")):
        with pytest.raises(ValueError, match="actor and a reason"):
            control.accept_pair("shop", "files", "new", actor, reason)
    control.accept_pair("shop", "files", "new", "ada", "moved to another server")
    assert control.check_pair("shop", "files", "new") is None
    assert control.check_pair("shop", "files", "old") == "new"


def test_a_request_lives_from_requested_to_finished(control: Control) -> None:
    asked = control.add_request("k1", "shop", "reconcile")
    assert (asked.state, control.pending_requests(0), control.pending_requests(asked.id)) == ("requested", [asked], [])
    assert control.mark_request(asked.id, run_id="run1")
    assert not control.mark_request(asked.id, run_id="run2"), "started once"
    started = control.get_request(asked.id)
    assert (started.state, started.run_id, control.pending_requests()) == ("started", "run1", [])
    assert control.mark_request(asked.id, verdict="complete", artefact_id="a")
    assert not control.mark_request(asked.id, verdict="refused")
    ended = control.get_request(asked.id)
    assert (ended.state, ended.verdict, ended.artefact_id, ended.run_id) == ("finished", "complete", "a", "run1")


def test_the_same_key_is_the_same_request_also_after_its_end(control: Control) -> None:
    first = control.add_request("k1", "shop", "reconcile")
    control.mark_request(first.id, verdict="complete")
    assert control.add_request("k1", "shop", "reconcile").id == first.id
    assert control.add_request("k1", "other", "reconcile").id != first.id


def test_one_open_request_a_system(control: Control) -> None:
    first = control.add_request("k1", "shop", "reconcile")
    assert control.add_request("k2", "shop", "reconcile") == first
    control.mark_request(first.id, verdict="complete")
    assert control.add_request("k2", "shop", "reconcile").key == "k2"


def test_many_callers_at_once_make_one_request(control: Control) -> None:
    start = threading.Barrier(6)

    def ask(n: int) -> int:
        start.wait()
        return control.add_request(f"k{n}", "shop", "reconcile").id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(ask, range(6)))) == 1


def test_a_lost_request_stands_in_nobodys_way(control: Control) -> None:
    lost = control.add_request("k1", "shop", "reconcile")
    now = datetime.now(UTC)
    assert control.add_request("k2", "shop", "reconcile", lost_before=now - timedelta(hours=1)) == lost
    assert control.add_request("k2", "shop", "reconcile", lost_before=now + timedelta(hours=1)).key == "k2"
    assert control.get_request(lost.id).verdict == "lost"
