"""Applications work, policies run, processes die: over the whole run nothing needed is lost (issue 3).

Every step is drawn at random: what the application does, also between the question and the act, which policy
runs, at which point it dies, and whether its process gets to tidy up. After every step the promises hold.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from maintenance_defs.core.errors import MaintenanceError, Refused
from maintenance_defs.retention.purge import due_for_purge, purge_entries
from maintenance_defs.retention.restore import restore
from tests.support.chaos import Chaos, Killed
from tests.support.promises import finish, give_everything_back, hold
from tests.support.servers import moto_server
from tests.support.shop import POLICIES, Shop, made_shop

# What the application may do: a name and two numbers that choose among what there is.
VERBS = (
    "upload", "upload young", "temporary", "render", "expiring", "working", "save", "save", "share", "share",
    "roll back", "finish", "reopen", "link", "link", "rename", "overwrite", "delete", "unsave",
)  # fmt: skip
DEEDS = st.tuples(st.sampled_from(VERBS), st.integers(0, 99), st.integers(0, 99))
CRASH = st.one_of(st.none(), st.tuples(st.integers(1, 30), st.booleans()))


def deed(shop: Shop, verb: str, one: int, two: int) -> None:
    """The application does something; nothing where it has nothing to do it to."""
    app = shop.app
    live, renders, saved = app.live(), sorted(app.renders), sorted(app.saved)
    key = live[one % len(live)] if live else None
    id = renders[one % len(renders)] if renders else None
    match verb:
        case "upload" | "upload young":
            app.upload(old=verb == "upload")
        case "temporary":
            app.upload(prefix="tmp/", old=one % 2 == 0)
        case "render" | "expiring" | "working":
            status = {"render": "done", "expiring": "expired", "working": "working"}[verb]
            app.render(app.upload() if one % 3 else key, status, old=two % 4 != 0)
        case "share" if key:
            app.share([key, live[two % len(live)]])
        case "roll back" if key:
            app.roll_back(key)
        case "save" if id:
            app.save(id)
        case "finish" | "reopen" if id:
            app.set_status(id, "done" if verb == "finish" else "working")
        case "link" if id and key:
            app.link(id, key)
        case "rename" if id:
            app.rename(id)
        case "overwrite" if key:
            app.put(key, old=two % 2 == 0)
        case "delete" if id:
            app.delete(id)
        case "unsave" if saved:
            app.unsave(saved[one % len(saved)])
        case _:
            pass


class World(RuleBasedStateMachine):
    """One shop; `kind` and `endpoint` are set by the subclass a test makes."""

    kind = "folder"
    endpoint = ""

    @initialize(deeds=st.lists(DEEDS, min_size=6, max_size=14))
    def open(self, deeds: list[tuple[str, int, int]]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._made = made_shop(Path(self._folder.name), self.kind, self.endpoint)
        self.shop = self._made.__enter__()
        self.chaos = Chaos(self.shop)
        for verb in ("render", "expiring", "upload", "temporary"):
            deed(self.shop, verb, 1, 1)
        for one in deeds:
            deed(self.shop, *one)

    @rule(deeds=st.lists(DEEDS, min_size=1, max_size=8))
    def work(self, deeds: list[tuple[str, int, int]]) -> None:
        for one in deeds:
            deed(self.shop, *one)

    @rule(
        policy=st.sampled_from(sorted(POLICIES)),
        meanwhile=st.lists(DEEDS, max_size=4),
        races=st.dictionaries(st.integers(1, 12), DEEDS, max_size=4),
        crash=CRASH,
        batch=st.integers(1, 4),
    )
    def run_policy(
        self,
        policy: str,
        meanwhile: list[tuple[str, int, int]],
        races: dict[int, tuple[str, int, int]],
        crash: tuple[int, bool] | None,
        batch: int,
    ) -> None:
        """Reconciled, planned, approved; the application goes on; executed with races, until done or dead."""
        plan = self.shop.planned(policy)
        for one in meanwhile:
            deed(self.shop, *one)
        if plan.units:
            self._execute(plan.id, races, crash, batch)

    @rule(races=st.dictionaries(st.integers(1, 12), DEEDS, max_size=3), crash=CRASH)
    def resume(self, races: dict[int, tuple[str, int, int]], crash: tuple[int, bool] | None) -> None:
        self.shop.lapse()
        for plan in self.shop.state.plans("shop", states=("executing", "partial"), limit=1000):
            self._execute(plan.id, races, crash, 3)

    def _execute(
        self, plan_id: str, races: dict[int, tuple[str, int, int]], crash: tuple[int, bool] | None, batch: int
    ) -> None:
        before = [a for a in self.shop.acts(plan_id) if not a["of_plan"]]
        self._through(races, crash, partial(self.shop.execute, plan_id, units_per_batch=batch))
        if self.shop.state.plan(plan_id).state == "done":
            files, rows = self.shop.files.keys(), self.shop.app.rows("renders")
            again = self.shop.execute(plan_id)
            assert again.state == "done" and not again.counts
            assert (files, rows) == (self.shop.files.keys(), self.shop.app.rows("renders"))
        after = [a for a in self.shop.acts(plan_id) if not a["of_plan"]]
        assert [a["seq"] for a in after][: len(before)] == [a["seq"] for a in before]

    def _through(
        self, races: dict[int, tuple[str, int, int]], crash: tuple[int, bool] | None, call: Callable[[], object]
    ) -> None:
        self.chaos.calm()
        self.chaos.actions = {at: partial(deed, self.shop, *one) for at, one in races.items()}
        if crash is not None:
            self.chaos.at, self.chaos.hard = crash
        try:
            with self.chaos.installed():
                call()
        except Killed:
            pass
        except Refused as error:
            assert error.reason in ("busy", "not_quarantined"), error
        except MaintenanceError as error:
            assert "executes plan" in str(error), error

    @rule(number=st.integers(0, 20), crash=CRASH)
    def restore_some(self, number: int, crash: tuple[int, bool] | None) -> None:
        entries = list(self.shop.state.quarantined("shop"))
        if entries:
            plan_id = entries[number % len(entries)].plan_id
            give = partial(restore, self.shop.system, self.shop.home, actor="ada", reason="asked", plan_id=plan_id)
            self._through({}, crash, give)

    @rule(crash=CRASH)
    def purge(self, crash: tuple[int, bool] | None) -> None:
        """A month later; what is purged was needed by nobody, which `hold` would notice."""
        self.shop.reconcile()
        found = due_for_purge(self.shop.system, self.shop.home, at=self.shop.clock() + timedelta(days=31))
        entries = found.due[:3]
        give = partial(purge_entries, self.shop.system, self.shop.home, entries, actor="ada", reason="month over")
        self._through({}, crash, give)

    @rule(one=st.integers(0, 99))
    def held(self, one: int) -> None:
        """A hold is placed, and what it covers stays whatever the policies say."""
        live = self.shop.app.live()
        if live:
            self.shop.state.add_hold("shop", "ada", "a dispute", store="files", key=live[one % len(live)])

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "shop"):
            hold(self.shop)
            held = {hold.key for hold in self.shop.state.holds("shop")}
            removed = {h for h in held if h in self.shop.app.objects and self.shop.files.get(h) is None}
            assert not removed, f"held, and gone: {removed}"

    def teardown(self) -> None:
        if not hasattr(self, "shop"):
            return
        try:
            self.chaos.calm()
            finish(self.shop)
            hold(self.shop, settled=True)
            self.shop.ahead += timedelta(minutes=11)  # what a killed restore had begun is free again
            give_everything_back(self.shop)
            hold(self.shop, settled=True)
        finally:
            self._made.__exit__(None, None, None)
            self._folder.cleanup()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        yield url


def explore(kind: str, endpoint: str, examples: int, steps: int, *, derandomize: bool) -> None:
    machine = type("World", (World,), {"kind": kind, "endpoint": endpoint})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=derandomize, database=None,
            suppress_health_check=list(HealthCheck), print_blob=True,
            phases=(Phase.generate,) if derandomize else (Phase.generate, Phase.shrink),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "plain", "versioned"])
def test_nothing_needed_is_lost_while_applications_and_policies_work(kind: str, endpoint: str) -> None:
    explore(kind, endpoint, 2, 6, derandomize=True)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["folder", "plain", "versioned"])
def test_nothing_needed_is_lost_in_a_long_run(kind: str, endpoint: str) -> None:
    explore(kind, endpoint, 40, 20, derandomize=False)
