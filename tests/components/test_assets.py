"""The three assets of a system on a real database and real folders, in process."""

from __future__ import annotations

import shutil
from typing import Any

import dagster as dg
import pytest

from maintenance_defs.components import metadata
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import StoreUnavailable
from maintenance_defs.stores.local import LocalStore
from tests.components.conftest import Club, Run


def materialised(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """asset -> metadata values; tables as lists of dictionaries."""
    return {
        event.asset_key.path[-1]: {name: value(item) for name, item in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


def value(item: Any) -> Any:
    return [record.data for record in item.records] if isinstance(item, dg.TableMetadataValue) else item.value


def checks(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str, str]]:
    """asset.check -> (passed, severity, why)."""
    return {
        f"{e.asset_key.path[-1]}.{e.check_name}": (
            e.passed,
            e.severity.value,
            str(e.metadata["why"].value) if "why" in e.metadata else "",
        )
        for e in result.get_asset_check_evaluations()
    }


def failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """step -> what it failed with."""
    found = {}
    for event in result.all_events:
        if event.event_type_value == "STEP_FAILURE":
            data = event.step_failure_data
            told = data.user_failure_data.description if data.user_failure_data else None
            found[str(event.step_key)] = told or str(data.error)
    return found


def test_a_reconciliation_materialises_its_three_assets_with_their_numbers(run: Run) -> None:
    result = run()
    assert result.success
    shown = materialised(result)
    assert list(shown) == ["inventory", "references", "orphan_diff"]
    assert shown["inventory"]["objects"] == 21
    assert {row["scope"]: row["objects"] for row in shown["inventory"]["scopes"]} == {
        "files: docs/": "11", "covers: (all)": "10"
    }  # fmt: skip
    assert (shown["references"]["keys"], shown["references"]["rows"]) == (20, 20)
    diff = shown["orphan_diff"]
    assert (diff["verdict"], diff["orphans"], diff["orphaned_bytes"], diff["missing_rows"]) == ("complete", 2, 12000, 1)
    assert [row["key"] for row in diff["findings"]] == ["docs/old.pdf", "docs/older.pdf", "docs/3.pdf"]


def test_checks_say_what_a_person_has_to_look_at(run: Run) -> None:
    found = checks(run())
    assert {name: passed for name, (passed, _, _) in found.items()} == {
        "inventory.complete": True,
        "inventory.within_limit": True,
        "references.complete": True,
        "references.nothing_shrunk": True,
        "references.quick_queries": True,
        "orphan_diff.plausible": True,
        "orphan_diff.references_resolve": True,
        "orphan_diff.no_missing_objects": False,
        "orphan_diff.untitled": False,
        "orphan_diff.few_orphans": True,
        "orphan_diff.runs_succeed": True,
        "orphan_diff.quick_cycles": True,
    }


def test_what_the_ui_shows_stays_small(run: Run, club: Club) -> None:
    key = "docs/" + "x" * 200
    for n in range(100, 400):  # M02: metadata holds a bounded sample, the artefact everything
        if n % 10:
            club.object("files", f"{key}{n}.pdf", 1)
        if n % 10 != 5:
            club.sql("INSERT INTO docs VALUES (?, ?, NULL, NULL)", n, f"{key}{n}.pdf")
    result = run()
    shown = materialised(result)
    for values in shown.values():
        assert len(values) <= 12
        for item in values.values():
            assert not isinstance(item, list) or (len(item) <= 10 and all(len(row) <= 4 for row in item))
            assert not isinstance(item, str) or len(item) < 1000
            assert not isinstance(item, list) or all(len(str(cell)) <= 60 for row in item for cell in row.values())
    assert (shown["orphan_diff"]["orphans"], shown["orphan_diff"]["missing_rows"]) == (32, 31)
    assert shown["orphan_diff"]["dagster/row_count"] == 63
    for event in result.get_asset_check_evaluations():
        assert sum(len(str(value(item))) for item in event.metadata.values()) < 5000


def test_a_summary_stays_below_the_limit_at_which_the_ui_hides_it() -> None:  # M02
    assert metadata.markdown(["w" * 500], "c" * 400).endswith("c")
    assert metadata.markdown(["w" * 500], "c" * 500) == "w" * 500  # the chart goes first
    cut = metadata.markdown(["w" * 5000], "c")
    assert (len(cut), cut[-2:]) == (999, "w…")


def test_a_check_is_about_the_materialisation_of_its_own_run(run: Run) -> None:
    run()
    result = run()
    targets = [evaluation.target_materialization_data for evaluation in result.get_asset_check_evaluations()]
    assert {target and target.run_id for target in targets} == {result.run_id}


def test_a_refused_diff_is_a_report_whose_check_fails(run: Run, club: Club) -> None:
    club.sql("DELETE FROM docs")
    result = run()
    assert materialised(result)["orphan_diff"]["verdict"] == "refused: empty_reference_set"
    passed, severity, why = checks(result)["orphan_diff.plausible"]
    assert (passed, severity) == (False, "ERROR")
    assert "no row names any object" in why


def test_a_store_that_cannot_be_listed_fails_its_check_and_the_others_go_on(run: Run, club: Club) -> None:
    shutil.rmtree(club.folder / "covers")
    result = run()
    shown = materialised(result)
    assert {row["store"]: row["objects"] for row in shown["inventory"]["stores"]} == {
        "files": "11", "covers": "not\N{NO-BREAK SPACE}known"
    }  # fmt: skip
    passed, severity, why = checks(result)["inventory.complete"]
    assert (passed, severity) == (False, "ERROR")
    assert "`covers` is refused" in why


def test_a_limit_raises_neither_alert_nor_all_clear_from_an_incomplete_listing(run: Run, club: Club) -> None:  # K14
    shutil.rmtree(club.folder / "files")
    passed, severity, why = checks(run())["inventory.within_limit"]
    assert (passed, severity) == (False, "WARN")
    assert "nothing is known about its size" in why


def test_a_store_above_its_limit_is_an_error(run: Run, club: Club) -> None:
    club.object("files", "docs/1.pdf", 1_000_001)
    passed, severity, why = checks(run())["inventory.within_limit"]
    assert (passed, severity) == (False, "ERROR")
    assert "its limit is 1 MB" in why


def test_when_no_store_can_be_listed_nothing_runs_on_the_previous_inventory(run: Run, club: Club) -> None:  # M01
    assert run().success
    for store in ("files", "covers"):
        shutil.rmtree(club.folder / store)
    result = run()
    assert not result.success
    assert materialised(result) == {}
    assert list(failures(result)) == ["papers__inventory"]
    assert not any(event.is_step_start and event.step_key != "papers__inventory" for event in result.all_events)
    alone = run("references", "orphan_diff")  # asked for: it says that there is nothing to compare with
    assert "orphans" not in materialised(alone).get("orphan_diff", {})
    assert not checks(alone)["orphan_diff.plausible"][0]


def test_one_store_that_fails_is_not_compared_by_its_previous_inventory(run: Run, club: Club) -> None:  # M01
    first = materialised(run())["orphan_diff"]
    assert (first["orphans"], first["missing_rows"]) == (2, 1)
    (club.folder / "files").rename(club.folder / "elsewhere")
    for result in (run(), run("references", "orphan_diff"), run("orphan_diff")):
        diff = materialised(result)["orphan_diff"]
        assert diff["verdict"].startswith("refused: store_unreachable")
        assert [row["key"] for row in diff.get("findings", [])] == []
        passed, severity, why = checks(result)["orphan_diff.plausible"]
        assert (passed, severity) == (False, "ERROR")
        assert "does not exist. Nothing was read" in why
    (club.folder / "elsewhere").rename(club.folder / "files")
    assert materialised(run())["orphan_diff"]["orphans"] == 2


def test_references_that_fail_are_not_replaced_by_the_previous_ones(run: Run, club: Club) -> None:  # M01, A06
    assert materialised(run())["orphan_diff"]["orphans"] == 2
    club.sql("ALTER TABLE docs RENAME TO papers")
    assert not run().success
    alone = run("orphan_diff")
    assert not alone.success
    assert materialised(alone) == {}
    assert "there is no table docs" in failures(alone)["papers__orphan_diff"]


def test_missing_credentials_are_named_without_any_secret(run: Run, club: Club) -> None:  # M08
    club.environment |= {"PAPERS_FILES_URL": "", "PAPERS_COVERS_URL": "", "PAPERS_DATABASE_URL": "sqlite:///hunter2"}
    result = run()
    told = failures(result)["papers__inventory"]
    assert "PAPERS_FILES_URL is not set" in told
    assert "PAPERS_COVERS_URL is not set" in told
    assert "hunter2" not in str(result.all_events)


def test_a_table_that_is_gone_fails_the_references_and_stops_the_diff(run: Run, club: Club) -> None:
    club.sql("DROP TABLE docs")
    result = run()
    assert list(materialised(result)) == ["inventory"]
    assert "there is no table docs" in failures(result)["papers__references"]
    assert checks(result)["references.complete"][:2] == (False, "ERROR")
    assert not any(event.event_type_value == "STEP_UP_FOR_RETRY" for event in result.all_events)


def test_what_may_be_over_soon_is_tried_again(run: Run, club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    listings: list[str] = []
    real = LocalStore.list

    def busy(self: LocalStore, **given: Any) -> Any:
        listings.append(self.display_url)
        if len(listings) <= 2:
            raise StoreUnavailable("503 SlowDown", transient=True)
        return real(self, **given)

    monkeypatch.setattr(LocalStore, "list", busy)
    result = run()
    assert result.success
    assert [e.step_key for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"] == ["papers__inventory"]


def test_references_that_shrink_fail_their_check(run: Run, club: Club) -> None:
    for n in range(200):
        club.sql("INSERT INTO docs VALUES (?, ?, 'T', NULL)", 1000 + n, f"docs/new-{n}.pdf")
        club.object("files", f"docs/new-{n}.pdf", 1)
    run()
    club.sql("DELETE FROM docs WHERE id > 20")
    passed, severity, why = checks(run("references"))["references.nothing_shrunk"]
    assert (passed, severity) == (False, "ERROR")
    assert "named 210 keys and now 10" in why


def test_one_instant_given_to_the_inventory_holds_for_the_whole_run(run: Run, club: Club) -> None:
    result = run(config={"papers__inventory": {"config": {"as_of": "2023-11-01T00:00:00Z"}}})
    shown = materialised(result)
    assert {name: values["as_of"] for name, values in shown.items()} == dict.fromkeys(shown, "2023-11-01T00:00:00Z")
    assert shown["orphan_diff"]["orphans"] == 0  # they were written two weeks later


@pytest.mark.parametrize(
    ("as_of", "said"),
    [("yesterday", "as_of is not an instant"), ("2999-01-01T00:00:00Z", "lies in the future")],
)
def test_an_instant_that_cannot_be_meant_ends_the_step_with_its_reason(run: Run, as_of: str, said: str) -> None:
    result = run("inventory", config={"papers__inventory": {"config": {"as_of": as_of}}})
    assert said in failures(result)["papers__inventory"]


def test_the_artefacts_of_a_run_carry_its_id(run: Run, club: Club) -> None:
    result = run()
    for kind, name in (("inventory", "files"), ("references", ""), ("orphan_diff", "")):
        newest = club.home.control.latest("papers", kind, name)
        assert newest is not None
        assert newest.run_id == result.run_id


def test_keys_are_shown_as_they_are_and_never_as_markup(run: Run, club: Club) -> None:
    assert metadata.plain("<img src=x> `a` [b](c)\n*d*") == "\\<img src=x> \\`a\\` \\[b\\](c) \\*d\\*"


def test_assets_say_in_words_what_they_do(papers: System) -> None:
    from maintenance_defs.components.words import describe_diff, describe_inventory, describe_references

    assert "`docs/` product" in describe_inventory(papers)
    assert "`(all)` library (reported only)" in describe_inventory(papers)
    assert "`docs`: `template {id}.png` (to covers, protects only)" in describe_references(papers)
    assert "`young` for 1 h" in describe_diff(papers)


def test_a_variable_put_in_the_place_of_the_instant_is_not_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAPERS_S3_SECRET", "hunter2")  # anybody who may start a run may write {env: …}
    result = run("inventory", config={"papers__inventory": {"config": {"as_of": {"env": "PAPERS_S3_SECRET"}}}})
    assert not result.success
    assert "hunter2" not in "".join(str(event) for event in result.all_events)
