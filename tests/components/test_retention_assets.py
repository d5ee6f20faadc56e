"""Plan, approval and deletion of a policy, executed in process on a real database and real folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from maintenance_defs.components.maintained_system import system_definitions
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.declarations import load_systems
from tests.components.conftest import PAPERS, Club, write
from tests.components.test_assets import checks, failures, materialised, value

POLICIES = """\
  preset: production
  preset_env: PAPERS_PRESET
  presets:
    testing: {unread: 180 s}
    production: {unread: 30 d}
  retention:
    unread:
      describe: a paper that nobody reads
      select: {rows: docs, id: id, where: title = 'T1' OR title = 'T2'}
      keep: [{younger_than: unread, by: changed_at}]
      act: {objects: quarantine, rows: delete}
    loose:
      describe: a file that no paper names
      select: {orphans: files, prefix: docs/}
      keep: [{younger_than: 24 h}]
      act: {objects: quarantine}
      mode: automatic
      observations: 1
      enabled_env: PAPERS_LOOSE
"""
DAMAGE = "      show: [key]\n      severity: error\n      pauses: true\n"
Go = Callable[..., dg.ExecuteInProcessResult]


class Room:
    """The code location of one deployment, whose jobs and assets run in process."""

    def __init__(self, club: Club, instance: dg.DagsterInstance, folder: Path, text: str = PAPERS + POLICIES) -> None:
        self.club, self.instance = club, instance
        self.system: System = load_systems(write(folder, {"assets/papers/defs.yaml": text}))["papers"].system
        self.assets = system_definitions(self.system, folder)

    def job(self, name: str) -> dg.ExecuteInProcessResult:
        bound = dg.Definitions.merge(self.assets, dg.Definitions(resources={"home": self.club.home}))
        return bound.resolve_job_def(name).execute_in_process(instance=self.instance, raise_on_error=False)

    def asset(self, name: str, config: dict[str, Any] | None = None, partition: str | None = None) -> Any:
        return dg.materialize(
            list(self.assets.assets or ()),  # type: ignore[arg-type]
            resources={"home": self.club.home}, instance=self.instance, raise_on_error=False,
            selection=[dg.AssetKey(["papers", name])], partition_key=partition,
            run_config={"ops": {f"papers__{name}": {"config": config}}} if config else None,
        )  # fmt: skip

    def plan(self, policy: str) -> PlanRow:
        [newest] = self.club.home.control.retention.plans("papers", policy, limit=1)
        return newest

    def approve(self, policy: str, **other: Any) -> Any:
        plan = self.plan(policy)
        consent = {"digest": plan.short_digest, "count": plan.units, "actor": "ada", "reason": "T-1"} | other
        return self.asset(f"{policy}_approval", consent, plan.id)


@pytest.fixture
def room(club: Club, instance: dg.DagsterInstance, tmp_path: Path) -> Room:
    return Room(club, instance, tmp_path / "policies")


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def files(club: Club) -> set[str]:
    return {file.name for file in (club.folder / "files/docs").iterdir()}


def test_a_manual_policy_stops_after_its_plan_and_says_what_to_do(room: Room, club: Club) -> None:
    result = room.job("papers_unread")
    assert result.success
    shown = materialised(result)
    assert list(shown) == ["inventory", "references", "orphan_diff", "unread_plan"]
    plan = room.plan("unread")
    page = shown["unread_plan"]
    assert (page["count"], page["digest"], page["plan"], page["size_bytes"]) == (2, plan.short_digest, plan.id, 300)
    assert sorted((plain(row["what"]), plain(row["act"])) for row in page["items"]) == [
        ("docs 1", "delete row"), ("docs 2", "delete row"), ("docs/1.pdf", "quarantine"), ("docs/2.pdf", "quarantine"),
    ]  # fmt: skip
    assert f"maintain approve {plan.short_digest} --count 2" in page["next"]
    assert "**2 units: 2 objects, 2 rows, 300 B** would go" in page["summary"]
    assert "](data:image/svg+xml;base64," in page["summary"]
    assert room.instance.get_dynamic_partitions("papers_unread_plans") == [plan.id]
    assert {"1.pdf", "2.pdf"} <= files(club)  # a plan changes nothing


def test_what_a_plan_shows_stays_small(room: Room, club: Club) -> None:
    for n in range(100, 140):
        club.object("files", f"docs/{'x' * 150}{n}.pdf", 1)
        club.sql("INSERT INTO docs VALUES (?, ?, 'T1', '2023-01-01')", n, f"docs/{'x' * 150}{n}.pdf")
    page = materialised(room.job("papers_unread"))["unread_plan"]
    assert page["count"] == 42
    assert len(page) <= 13
    assert (len(page["items"]), page["items"][-1]["what"]) == (10, "... and 75 more")
    assert all(len(row) <= 4 and len(str(cell)) <= 60 for row in page["items"] for cell in row.values())
    assert len(page["summary"]) < 1000


def test_an_approval_with_the_wrong_count_or_digest_fails_in_our_words(room: Room) -> None:
    room.job("papers_unread")
    for wrong, said in (
        ({"count": 9999}, "would act on 2 units, not 9,999. Nothing was approved."),
        ({"digest": "00000000"}, "not 00000000. Nothing was approved."),
    ):
        result = room.approve("unread", **wrong)
        assert not result.success
        assert said in failures(result)["papers__unread_approval"]
        assert room.plan("unread").state == "planned"
        assert materialised(result) == {}


def test_an_approval_shows_no_variable_of_the_environment(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAPERS_SECRET", "hunter2")
    room.job("papers_unread")
    for field in ("digest", "actor", "reason"):
        result = room.approve("unread", **{field: {"env": "PAPERS_SECRET"}})
        assert "is written out" in failures(result)["papers__unread_approval"]
        assert "hunter2" not in str(result.all_events)
    assert room.plan("unread").state == "planned"


def test_only_the_partitions_own_plan_can_be_approved(room: Room) -> None:
    room.job("papers_unread")
    room.job("papers_loose")
    other = room.plan("loose")
    room.instance.add_dynamic_partitions("papers_unread_plans", [other.id, "nonsense"])
    consent = {"digest": other.short_digest, "count": other.units, "actor": "ada", "reason": "T-1"}
    said = failures(room.asset("unread_approval", consent, other.id))["papers__unread_approval"]
    assert "is of papers/loose, not of papers/unread" in said
    assert "nonsense" in failures(room.asset("unread_approval", consent, "nonsense"))["papers__unread_approval"]


def test_an_approved_plan_is_executed_once_and_shows_its_ledger(room: Room, club: Club) -> None:
    room.job("papers_unread")
    approved = room.approve("unread")
    assert approved.success
    assert materialised(approved)["unread_approval"]["actor"] == "ada"
    result = room.asset("unread_deletion")
    page = materialised(result)["unread_deletion"]
    assert (page["state"], page["succeeded"], page["approved_by"]) == ("done", 4, "ada: T-1")
    assert [(row["what"], row["outcome"]) for row in page["ledger"]][:2] == [
        ("docs/1.pdf", "quarantined"), ("docs/2.pdf", "quarantined"),
    ]  # fmt: skip
    assert checks(result)["unread_deletion.complete"][0]
    assert not {"1.pdf", "2.pdf"} & files(club)
    again = room.asset("unread_deletion", {"plan": room.plan("unread").short_digest})
    assert materialised(again)["unread_deletion"]["succeeded"] == 0
    assert "no plan of unread is approved" in failures(room.asset("unread_deletion"))["papers__unread_deletion"]


def test_an_event_is_no_proof_of_consent(room: Room, club: Club) -> None:
    room.job("papers_unread")
    plan = room.plan("unread")
    room.instance.report_runless_asset_event(
        dg.AssetMaterialization(["papers", "unread_approval"], partition=plan.id, metadata={"actor": "mallory"})
    )
    for config in (None, {"plan": plan.id}):
        said = failures(room.asset("unread_deletion", config))["papers__unread_deletion"]
        assert "approve" in said
    assert {"1.pdf", "2.pdf"} <= files(club)


def test_the_first_cycle_of_an_automatic_policy_is_a_dry_run(room: Room, club: Club) -> None:  # S1-26, X-29
    result = room.job("papers_loose")
    assert result.success
    assert "loose_deletion" not in materialised(result)
    passed, severity, why = checks(result)["loose_deletion.complete"]
    assert (passed, severity) == (False, "WARN")
    assert "standing" in why
    assert {"old.pdf", "older.pdf"} <= files(club)

    assert room.approve("loose", standing=True).success
    assert {"old.pdf", "older.pdf"} <= files(club)
    second = room.job("papers_loose")
    assert materialised(second)["loose_deletion"]["succeeded"] == 2
    assert not {"old.pdf", "older.pdf"} & files(club)
    third = room.job("papers_loose")
    assert materialised(third)["loose_deletion"]["state"] == "nothing_to_do"
    assert checks(third)["loose_deletion.complete"][0]


def test_a_manual_policy_gets_no_standing_approval(room: Room) -> None:
    room.job("papers_unread")
    said = failures(room.approve("unread", standing=True))["papers__unread_approval"]
    assert "is manual" in said
    assert room.plan("unread").state == "planned"


def test_an_execution_that_is_partial_is_shown_with_a_failing_check(room: Room, club: Club) -> None:
    room.job("papers_unread")
    room.approve("unread")
    club.sql("CREATE TRIGGER no BEFORE DELETE ON docs WHEN old.id = 2 BEGIN SELECT RAISE(ABORT, 'not this one'); END")
    result = room.asset("unread_deletion")
    page = materialised(result)["unread_deletion"]
    assert (page["state"], page["succeeded"]) == ("partial", 2)
    assert "failed" in {row["outcome"] for row in page["not_done"]}
    assert "2.pdf" in files(club)  # its row stayed, so it came back
    passed, severity, why = checks(result)["unread_deletion.complete"]
    assert (passed, severity) == (False, "ERROR")
    assert "failed" in why


def test_paused_and_disabled_policies_say_so_and_delete_nothing(room: Room, club: Club) -> None:
    room.job("papers_loose")
    room.approve("loose", standing=True)
    club.home.control.retention.pause("papers", "loose", "bob", "moving house")
    paused = room.job("papers_loose")
    passed, severity, why = checks(paused)["loose_plan.enabled"]
    assert (passed, severity) == (False, "WARN")
    assert "bob: moving house" in why
    assert "loose_deletion" not in materialised(paused)
    club.home.control.retention.resume("papers", "loose", "bob", "moved")
    club.environment["PAPERS_LOOSE"] = "no"
    disabled = room.job("papers_loose")
    assert r"PAPERS\_LOOSE=true" in checks(disabled)["loose_plan.enabled"][2]
    assert {"old.pdf", "older.pdf"} <= files(club)


@pytest.mark.parametrize(
    ("preset", "environment", "passed"),
    [("testing", None, False), ("testing", "development", True), ("production", None, True)],
)
def test_a_testing_profile_in_production_is_a_warning(
    room: Room, club: Club, preset: str, environment: str | None, passed: bool
) -> None:  # S1-3
    club.environment["PAPERS_PRESET"] = preset
    if environment:
        club.environment["MAINTENANCE_ENVIRONMENT"] = environment
    found = checks(room.job("papers_unread"))
    assert found["unread_plan.profile"][:2] == (passed, "WARN")
    assert "loose_plan.profile" not in found


def test_a_plan_above_its_limits_fails_its_check_and_is_not_executed_by_itself(
    club: Club, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    text = PAPERS + POLICIES.replace("observations: 1", "observations: 1\n      limits: {max_objects: 1}")
    room = Room(club, instance, tmp_path / "strict", text)
    room.job("papers_loose")
    assert "limits" in failures(room.approve("loose"))["papers__loose_approval"]
    assert room.approve("loose", accept_limits=True, standing=True).success
    result = room.job("papers_loose")
    assert checks(result)["loose_plan.within_limits"][:2] == (False, "ERROR")
    assert "exceeds its limits" in failures(result)["papers__loose_deletion"]
    assert {"old.pdf", "older.pdf"} <= files(club)


def test_damage_pauses_the_system_until_a_person_resumes_it(
    club: Club, instance: dg.DagsterInstance, tmp_path: Path
) -> None:  # S1-35
    room = Room(club, instance, tmp_path / "watched", PAPERS.replace("      show: [key]\n", DAMAGE) + POLICIES)
    retention = club.home.control.retention
    room.job("papers_loose")  # paper 4 has no title
    pause = retention.paused("papers", "loose")
    assert pause is not None
    assert (pause.policy, pause.actor, pause.reason) == (
        None, "check untitled", "Papers without a title. 1 rows: 4",
    )  # fmt: skip
    room.approve("loose", standing=True)
    assert "Papers without a title" in failures(room.asset("loose_deletion"))["papers__loose_deletion"]
    assert {"old.pdf", "older.pdf"} <= files(club)
    retention.resume("papers", None, "ada", "seen")
    assert room.asset("loose_deletion").success  # what they resumed over is not paused for again
    assert not {"old.pdf", "older.pdf"} & files(club)
    club.sql("UPDATE docs SET title = NULL WHERE id = 5")
    room.job("papers_loose")
    assert retention.paused("papers", "loose") is not None


def test_the_restore_drill_restores_a_canary_and_misses_a_copy_that_is_gone(room: Room, club: Club) -> None:
    room.job("papers_unread")
    room.approve("unread")
    room.asset("unread_deletion")
    good = room.job("papers_restore_drill")
    [result] = good.get_asset_check_evaluations()
    assert (result.check_name, result.passed) == ("restore_drill", True)
    assert [row["result"] for row in value(result.metadata["stores"])] == [
        "its copy is there, 100 bytes", "restored and removed again",
    ]  # fmt: skip
    copies = sorted((club.folder / "files/.maintenance").rglob("*.pdf"))
    assert [copy.name for copy in copies] == ["1.pdf", "2.pdf"]  # the canary left nothing
    copies[0].unlink()
    [result] = room.job("papers_restore_drill").get_asset_check_evaluations()
    assert (result.passed, result.severity.value) == (False, "ERROR")
    assert "is gone, so it cannot be restored" in str(result.metadata["why"].value)


def test_reconciling_does_not_run_the_drill(room: Room, club: Club) -> None:  # H14: reports do not write
    result = room.job("papers_reconciliation")
    assert "inventory.restore_drill" not in checks(result)
    assert not (club.folder / "files/.maintenance").exists()
