"""Whole runs through networks and stores that fail: what the ledger says of each item is what the bucket says.

H06-H08, H10, H16, M04, F09; plain and versioned buckets behind the fault proxy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from maintenance_defs.control.retention.ledger import SUCCESS
from maintenance_defs.core.errors import Busy, MaintenanceError, SourceUnavailable
from maintenance_defs.retention import gate
from maintenance_defs.retention.restore import restore
from tests.support.acting import acts
from tests.support.fault_proxy import Fault, FaultProxy, Request
from tests.support.promises import finish, give_everything_back, hold
from tests.support.shop import Bucket, Files, Shop

ROOT = str(Path(__file__).parents[2])


@pytest.fixture(params=["plain", "versioned"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, endpoint: str, proxy: FaultProxy) -> Shop:
    """Retention goes through the proxy, the application does not."""
    return Shop(tmp_path, Bucket(endpoint, request.param == "versioned", through=proxy.url))


@pytest.fixture
def folder_shop(tmp_path: Path) -> Shop:
    (tmp_path / "files").mkdir()
    return Shop(tmp_path, Files(tmp_path / "files"))


def filled(shop: Shop, policy: str, count: int) -> list[str]:
    keys = [shop.app.upload(prefix="tmp/" if policy == "temporary" else "media/") for _ in range(count)]
    if policy == "unsaved":
        for key in keys:
            shop.app.render(key)
    shop.app.save(shop.app.render(shop.app.upload()) or "")
    return keys


def assert_ledger_is_true(shop: Shop, plan_id: str) -> dict[str, str]:
    """No act says of an object what the bucket does not; returns key or row -> last outcome."""
    found = shop.outcomes(plan_id)
    there = set(shop.files.keys()) | shop.app.rows("renders").keys()
    for item, outcome in found.items():
        if outcome in SUCCESS:
            assert item not in there, (item, outcome)
        elif outcome != "unknown":
            assert item in there, (item, outcome)
    assert all(a["detail"] for a in shop.acts(plan_id) if a["outcome"] in ("failed", "unknown"))
    hold(shop)
    return found


FAULTS: dict[str, dict[str, Any]] = {
    "throttled": {"status": 503},
    "too many requests": {"status": 429, "code": "TooManyRequests"},
    "reset before": {"reset": "before"},
    "reset after": {"reset": "after"},
    "truncated": {"cut": 20},
    "wrong answer": {"edit": lambda body: b"<html>gateway</html>"},
    "empty answer": {"edit": lambda body: b""},
    "server error": {"status": 500, "code": "InternalError"},
}
POLICY = ["unsaved", "temporary"]
FEW = ("reset after", "truncated")  # the others take a longer run


def some(names: list[str]) -> list[Any]:
    return [pytest.param(FAULTS[n], id=n, marks=() if n in FEW else pytest.mark.long) for n in names]


@pytest.mark.parametrize("policy", POLICY)
@pytest.mark.parametrize("fault", some(list(FAULTS)))
def test_faults_of_acts_that_pass_end_in_true_outcomes(
    shop: Shop, proxy: FaultProxy, policy: str, fault: dict[str, Any]
) -> None:
    """F09: whatever the first run could not do, the next one does, and only that."""
    keys = filled(shop, policy, 4)
    plan = shop.planned(policy)
    proxy.add(Fault(acts, times=2, **fault))
    with suppress(MaintenanceError):  # the store could not even be probed
        shop.execute(plan.id)
    assert_ledger_is_true(shop, plan.id)
    finish(shop)
    assert not set(keys) & set(shop.files.keys())
    hold(shop, settled=True)
    give_everything_back(shop)


@pytest.mark.parametrize("policy", POLICY)
@pytest.mark.parametrize("fault", some(["throttled", "reset before", "reset after", "truncated", "wrong answer"]))
def test_faults_of_acts_that_stay_end_in_true_outcomes(
    shop: Shop, proxy: FaultProxy, policy: str, fault: dict[str, Any]
) -> None:
    filled(shop, policy, 4)
    plan = shop.planned(policy)
    proxy.add(lasting := Fault(acts, **fault))
    with suppress(MaintenanceError):  # the store could not even be probed
        assert shop.execute(plan.id).state in ("partial", "done")
    assert shop.state.plan(plan.id).state in ("partial", "done")
    assert_ledger_is_true(shop, plan.id)
    lasting.times = 0
    finish(shop)
    hold(shop, settled=True)
    give_everything_back(shop)


def reads(request: Request) -> bool:
    return request.method in ("GET", "HEAD") and ".maintenance" not in request.target


@pytest.mark.parametrize("fault", some(list(FAULTS)))
def test_what_cannot_be_verified_is_not_acted_on(shop: Shop, proxy: FaultProxy, fault: dict[str, Any]) -> None:
    """Faults while the objects are looked at again: nothing goes on a guess."""
    keys = filled(shop, "unsaved", 3)
    plan = shop.planned("unsaved")
    proxy.add(broken := Fault(reads, **fault))
    try:
        run = shop.execute(plan.id)
    except MaintenanceError:
        pass
    else:
        assert run.state == "partial"
    assert set(keys) <= set(shop.files.keys())
    assert_ledger_is_true(shop, plan.id)
    broken.times = 0
    finish(shop)
    assert not set(keys) & set(shop.files.keys())


@pytest.mark.parametrize("shop", ["plain"], indirect=True)
@pytest.mark.parametrize("fault", some(list(FAULTS)))
def test_a_listing_that_fails_gives_no_plan(shop: Shop, proxy: FaultProxy, fault: dict[str, Any]) -> None:
    filled(shop, "orphans", 3)
    proxy.add(Fault(lambda request: "list-type=2" in request.target, **fault))
    with pytest.raises((AssertionError, MaintenanceError)):
        shop.planned("orphans")
    assert shop.state.plans("shop") == []


def test_one_key_that_always_fails_lets_the_others_go(shop: Shop, proxy: FaultProxy) -> None:
    """H10, F09: the run is partial, and a second run touches only what failed."""
    keys = filled(shop, "unsaved", 5)
    plan = shop.planned("unsaved")
    name = keys[2].rpartition("/")[2]
    proxy.add(Fault(lambda r: acts(r) and name in r.target, status=403, code="AccessDenied"))
    assert shop.execute(plan.id).state == "partial"
    found = assert_ledger_is_true(shop, plan.id)
    assert [found[key] for key in keys].count("quarantined") == 4
    assert found[keys[2]] == "failed"
    before = len(shop.acts(plan.id))
    shop.execute(plan.id)
    assert [a["key"] for a in shop.acts(plan.id)][before:] == [keys[2]]


@pytest.mark.parametrize("shop", ["plain"], indirect=True)
def test_too_many_failures_stop_the_run(shop: Shop, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """H10: after the budget nothing more is tried."""
    monkeypatch.setattr(gate, "ERROR_BUDGET", 4)
    keys = filled(shop, "orphans", 12)
    plan = shop.planned("orphans")
    proxy.add(Fault(acts, status=403, code="AccessDenied"))
    run = shop.execute(plan.id, units_per_batch=2)
    assert run.state == "partial"
    assert "so the run was stopped" in (run.message or "")
    assert run.counts == {"failed": 4, "not_reached": 8}
    assert set(keys) <= set(shop.files.keys())
    assert_ledger_is_true(shop, plan.id)


@pytest.mark.parametrize("shop", ["versioned"], indirect=True)
def test_a_delete_in_a_versioned_bucket_leaves_a_marker_that_restoring_takes_away(shop: Shop) -> None:
    """F01: the ledger keeps the marker's id, and restoring by it gives the bytes back."""
    keys = filled(shop, "temporary", 2)
    plan = shop.planned("temporary")
    shop.execute(plan.id)
    entries = list(shop.state.quarantined("shop", plan_id=plan.id))
    versions = shop.files.s3.list_object_versions(Bucket=shop.files.name)  # type: ignore[union-attr]
    assert {(m["Key"], m["VersionId"]) for m in versions["DeleteMarkers"]} >= {
        (entry.key, (entry.undo or {})["marker_id"]) for entry in entries
    }
    assert sorted(entry.key or "" for entry in entries) == keys
    restore(shop.system, shop.home, actor="ada", reason="wanted back", plan_id=plan.id)
    assert set(keys) <= set(shop.files.keys())
    hold(shop, settled=True)


# -- the database and the ledger


def test_database_that_goes_in_mid_run_stops_it_and_the_rest_is_untouched(folder_shop: Shop) -> None:
    """H06: stop, remaining items untouched, and the plan goes on where it stopped."""
    shop = folder_shop
    keys = filled(shop, "unsaved", 6)
    plan = shop.planned("unsaved")
    away = shop.database.with_suffix(".away")

    def lose(units: int) -> None:
        if shop.database.exists():
            shop.database.rename(away)

    with pytest.raises(SourceUnavailable):
        shop.execute(plan.id, units_per_batch=2, progress=lose)
    away.rename(shop.database)
    assert len(set(keys) & set(shop.files.keys())) == 4
    assert shop.state.plan(plan.id).state == "partial"
    hold(shop)
    shop.execute(plan.id)
    done = Counter((a["unit"], a["step"]) for a in shop.acts(plan.id))
    assert set(done.values()) == {1}
    hold(shop, settled=True)


@pytest.mark.parametrize("method", ["intents", "outcomes"])
def test_ledger_that_cannot_be_written_means_no_further_act(
    folder_shop: Shop, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H08: no intent on record, no act; no outcome on record, no further act."""
    shop = folder_shop
    keys = filled(shop, "unsaved", 4)
    plan = shop.planned("unsaved")
    engine = shop.home.control._engine
    trigger = "intent" if method == "intents" else "outcome"
    with engine.begin() as connection:
        table = next(t for t in sa.inspect(engine).get_table_names() if t.endswith("act"))
        connection.execute(
            sa.text(
                f"CREATE TRIGGER full BEFORE INSERT ON {table} WHEN NEW.phase = '{trigger}' "
                "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        )
    with pytest.raises(sa.exc.DBAPIError):
        shop.execute(plan.id, units_per_batch=2)
    left = set(keys) & set(shop.files.keys())
    assert len(left) == (4 if method == "intents" else 2)
    assert len(shop.app.rows("renders")) == 6
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TRIGGER full"))
    hold(shop)
    finish(shop)
    assert not set(keys) & set(shop.files.keys())
    hold(shop, settled=True)


# -- killed, cancelled, twice

CHILD = """
    import signal
    import sys
    from pathlib import Path
    from tests.support.shop import Files, reopened
    from maintenance_defs.retention.gate import execute
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started us may have ignored it
    shop = reopened(Path(sys.argv[1]))
    done = 0
    def progress(units):
        global done
        done += units
        print(done, flush=True)
    try:
        run = shop.execute(sys.argv[2], units_per_batch=int(sys.argv[3]), progress=progress)
        print(run.state, flush=True)
    except BaseException as error:
        print(type(error).__name__, flush=True)
        sys.exit(3)
"""


def child(shop: Shop, plan_id: str, batch: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(shop.folder), plan_id, str(batch)],
        env=os.environ | {"PYTHONPATH": ROOT}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def lines_until(process: subprocess.Popen[str], wanted: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().isdigit() and int(line) >= wanted:
            return
    raise AssertionError("it ended too early")


def acted_once(shop: Shop, plan_id: str, units: int) -> None:
    done = Counter((a["unit"], a["step"]) for a in shop.acts(plan_id) if a["outcome"] in SUCCESS)
    assert len(done) == units
    assert set(done.values()) == {1}


def test_killed_in_the_middle_the_next_run_finishes_and_each_item_is_acted_on_once(folder_shop: Shop) -> None:
    """H07: kill -9 after 20 of 40."""
    shop = folder_shop
    keys = filled(shop, "orphans", 40)
    plan = shop.planned("orphans")
    process = child(shop, plan.id, 5)
    lines_until(process, 20)
    process.kill()
    process.wait()
    left = set(keys) & set(shop.files.keys())
    assert 0 < len(left) <= 20
    assert shop.state.plan(plan.id).state == "executing"
    hold(shop)
    with pytest.raises(Busy):  # until the lease of the killed one lapsed
        shop.execute(plan.id)
    shop.lapse()
    shop.execute(plan.id)
    assert shop.state.plan(plan.id).state == "done"
    acted_once(shop, plan.id, 40)
    hold(shop, settled=True)


def test_cancelled_in_the_middle_the_ledger_tells_what_was_done(folder_shop: Shop) -> None:
    """H16: an interrupt ends the run as partial, without waiting for a lease; every item has an outcome or none."""
    shop = folder_shop
    keys = filled(shop, "orphans", 40)
    plan = shop.planned("orphans")
    process = child(shop, plan.id, 5)
    lines_until(process, 15)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 3
    assert shop.state.plan(plan.id).state == "partial"
    found = assert_ledger_is_true(shop, plan.id)
    gone = {key for key in keys if key not in set(shop.files.keys())}
    assert gone == {key for key, outcome in found.items() if outcome == "quarantined"}
    assert 15 <= len(gone) < 40
    shop.execute(plan.id)
    acted_once(shop, plan.id, 40)
    hold(shop, settled=True)


def test_two_executors_at_once_never_both_act(folder_shop: Shop) -> None:
    """M04: of two processes one acts; the other is told who does, or that all is done."""
    shop = folder_shop
    filled(shop, "orphans", 20)
    plan = shop.planned("orphans")
    processes = [child(shop, plan.id, 4) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].split() for process in processes]
    worked = [lines for lines in said if any(line.isdigit() for line in lines)]
    assert len(worked) == 1, said
    assert sorted(lines[-1] for lines in said) in (["Busy", "done"], ["done", "done"])
    acted_once(shop, plan.id, 20)
    assert len({a["actor"] for a in shop.acts(plan.id)}) == 1
    hold(shop, settled=True)
