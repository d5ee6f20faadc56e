"""What becomes needed while a run works, or after one died, is given back (B02, K06)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from maintenance_defs.core.errors import Refused
from maintenance_defs.retention.restore import restore
from tests.support.chaos import Chaos, Killed
from tests.support.promises import finish, give_everything_back, hold
from tests.support.servers import moto_server
from tests.support.shop import POLICIES, Shop, declaration, made_shop


@pytest.mark.parametrize("where", ["before intents", "before quarantine", "after intents"])
def test_a_reference_committed_between_question_and_act_gets_its_file_back(
    shop: Shop, chaos: Chaos, where: str
) -> None:
    """B02: the row is written when the database has been asked and the object is still there."""
    key, other = shop.app.upload(), shop.app.upload()
    plan = shop.planned("orphans")
    chaos.before[where] = [lambda: shop.app.share([key]) and None]
    with chaos.installed():
        run = shop.execute(plan.id)
    assert chaos.before == {}
    assert run.restored == 1
    assert run.counts == {"quarantined": 1, "skipped_referenced": 1}
    assert shop.files.get(key) is not None and shop.files.get(other) is None
    hold(shop, settled=True)


def test_a_plan_that_gave_something_back_is_done_once_the_rest_is_done(shop: Shop, chaos: Chaos) -> None:
    """What was given back is not looked for in quarantine again: the next run of the plan ends."""
    first, second = shop.app.upload(), shop.app.upload()
    plan = shop.planned("orphans")
    chaos.before["before intents"] = [lambda: shop.app.share([first]) and None]
    chaos.at, chaos.hard = 11, False
    with chaos.installed(), pytest.raises(Killed):
        shop.execute(plan.id, units_per_batch=1)
    chaos.calm()
    shop.lapse()
    assert shop.files.get(second) is not None
    shop.execute(plan.id)
    assert shop.state.plan(plan.id).state == "done", shop.outcomes(plan.id)
    hold(shop, settled=True)


def test_what_a_person_restored_meanwhile_is_no_failure_of_the_resumed_run(shop: Shop, chaos: Chaos) -> None:
    first, second = shop.app.upload(), shop.app.upload()
    plan = shop.planned("orphans")

    def interrupt(units: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.execute(plan.id, units_per_batch=1, progress=interrupt)
    restore(shop.system, shop.home, actor="ada", reason="needed", plan_id=plan.id)
    shop.app.share([first])
    shop.reconcile()
    run = shop.execute(plan.id)
    assert (run.state, run.restored) == ("done", 0), run
    assert shop.files.get(first) is not None and shop.files.get(second) is None
    hold(shop, settled=True)


def test_a_row_stays_when_its_file_was_given_back_meanwhile(shop: Shop, chaos: Chaos) -> None:
    """H07, H16: a run cancelled between file and row gives the file back; the plan does not then take the row alone."""
    key = shop.app.upload()
    id = shop.app.render(key)
    plan = shop.planned("unsaved")

    def cancel() -> None:
        raise KeyboardInterrupt

    chaos.before["before delete of rows"] = [cancel]
    with chaos.installed(), pytest.raises(KeyboardInterrupt):
        shop.execute(plan.id)
    assert shop.files.get(key) is not None
    run = shop.execute(plan.id)
    assert (run.state, run.counts) == ("done", {"skipped_kept": 2})
    assert id in shop.app.rows("renders") and shop.files.get(key) is not None
    hold(shop, settled=True)
    again = shop.planned("unsaved")
    assert shop.execute(again.id).counts == {"deleted": 1, "quarantined": 1}


@pytest.mark.parametrize("noted", [True, False])
def test_an_interrupted_run_gives_back_what_is_needed_before_it_ends(shop: Shop, chaos: Chaos, noted: bool) -> None:
    """H16: nobody may resume a cancelled run; what its rows need must not wait for that.

    noted: whether the ledger knew already what had become of the object.
    """
    key = shop.app.upload()
    shop.app.upload()
    plan = shop.planned("orphans")
    chaos.before["before quarantine"] = [lambda: shop.app.share([key]) and None]

    def interrupt(units: int = 0) -> None:
        raise KeyboardInterrupt

    if not noted:
        chaos.before["after quarantine"] = [interrupt]
    with chaos.installed(), pytest.raises(KeyboardInterrupt):
        shop.execute(plan.id, units_per_batch=1, progress=interrupt)
    assert shop.files.get(key) is not None
    hold(shop, settled=True)


@pytest.mark.parametrize("policy", ["expired", "unsaved"])
def test_a_row_that_changed_after_a_run_died_between_object_and_row_gets_its_file_back(
    shop: Shop, chaos: Chaos, policy: str
) -> None:
    """The object is away, its row was not reached, and is needed again when the plan is taken up."""
    key = shop.app.upload()
    id = shop.app.render(key, "done" if policy == "unsaved" else "expired")
    assert id is not None
    plan = shop.planned(policy)
    rows = "before update of rows" if policy == "expired" else "before delete of rows"

    def reopen() -> None:  # the application does not look whether its file is there
        shop.app.sql(("UPDATE renders SET status = 'working' WHERE id = ?", [id]))
        chaos.dead = True
        raise Killed

    chaos.before[rows] = [reopen]
    with chaos.installed(), pytest.raises(Killed):
        shop.execute(plan.id)
    chaos.calm()
    assert shop.files.get(key) is None
    shop.app.renders[id] = type(shop.app.renders[id])(key, "working", shop.app.renders[id].created_at)
    finish(shop)
    hold(shop, settled=True)
    assert shop.files.get(key) is not None


@pytest.mark.parametrize("at", ["before restore", "after restore", "before end_undo"])
def test_a_restore_that_was_killed_can_be_taken_up_again(shop: Shop, chaos: Chaos, at: str) -> None:
    """I02: what a dead process had begun to restore is still found, once its time is over."""
    key = shop.app.upload()
    plan = shop.planned("orphans")
    shop.execute(plan.id)

    def die() -> None:
        chaos.dead = True
        raise Killed

    chaos.before[at] = [die]
    with chaos.installed(), pytest.raises(Killed):
        restore(shop.system, shop.home, actor="ada", reason="needed", plan_id=plan.id)
    chaos.calm()
    with pytest.raises(Refused):  # it may still be at work
        restore(shop.system, shop.home, actor="ada", reason="needed", plan_id=plan.id)
    shop.ahead += timedelta(minutes=11)
    undone = restore(shop.system, shop.home, actor="ada", reason="needed", plan_id=plan.id)
    assert undone.counts == {"restored": 1}
    assert shop.files.get(key) is not None
    hold(shop, settled=True)
    give_everything_back(shop)


def test_the_next_plan_of_a_system_settles_what_a_killed_run_had_begun(shop: Shop, chaos: Chaos) -> None:
    """H07, M04: nobody has to know which plan was killed; one that nobody resumes blocks nothing for ever."""
    key = shop.app.upload()
    killed = shop.planned("orphans")

    def die() -> None:
        chaos.dead = True
        raise Killed("kill -9")

    chaos.before["before quarantine"] = [lambda: shop.app.share([key]) and None]
    chaos.before["after quarantine"] = [die]
    with chaos.installed(), pytest.raises(Killed):
        shop.execute(killed.id)
    chaos.calm()
    assert shop.files.get(key) is None
    shop.app.upload()
    other = shop.planned("orphans")
    shop.lapse()  # … and nobody resumes the killed run
    assert shop.execute(other.id).state == "done"
    assert shop.state.plan(killed.id).state == "partial"
    assert shop.files.get(key) is not None
    hold(shop, settled=True)


def test_what_a_killed_run_had_begun_is_settled_although_its_plan_may_not_go_on(shop: Shop, chaos: Chaos) -> None:
    """H07, H19: a declaration that was changed since keeps no object away from the row that names it."""
    key, other = shop.app.upload(), shop.app.upload()
    plan = shop.planned("orphans")
    chaos.hard = True
    chaos.before["before quarantine"] = [lambda: shop.app.share([key]) and None]
    chaos.before["after quarantine"] = [chaos.die]
    with chaos.installed(), pytest.raises(Killed):
        shop.execute(plan.id)
    chaos.calm()
    assert shop.files.get(key) is None
    shop.lapse()
    shop.system = declaration({**POLICIES, "orphans": {**POLICIES["orphans"], "keep": [{"younger_than": "25 h"}]}})
    shop.reconcile()
    with pytest.raises(Refused, match="has changed since plan"):
        shop.execute(plan.id)
    assert shop.files.get(key) is not None and shop.files.get(other) is not None
    assert shop.state.plan(plan.id).state == "partial"
    hold(shop, settled=True)


@pytest.mark.parametrize("killed", [False, True])
def test_a_late_reference_to_what_was_deleted_from_a_bucket_with_versions_brings_it_back(
    tmp_path: Path, killed: bool
) -> None:
    """B02, F01: a delete there is a marker, so it need not be final; also where a killed run could not say so."""
    with moto_server() as endpoint, made_shop(tmp_path, "versioned", endpoint) as shop:
        key = shop.app.upload(prefix="tmp/")
        plan = shop.planned("temporary")
        chaos = Chaos(shop)
        chaos.hard = True
        chaos.before["before delete"] = [lambda: shop.app.share([key]) and None]
        if killed:
            chaos.before["after delete"] = [chaos.die]
            with chaos.installed(), pytest.raises(Killed):
                shop.execute(plan.id)
            chaos.calm()
            assert shop.files.get(key) is None
            shop.lapse()
        with chaos.installed():
            run = shop.execute(plan.id)
        assert run.restored == 1, (run, chaos.points)
        assert shop.files.get(key) is not None
        hold(shop, settled=True)
