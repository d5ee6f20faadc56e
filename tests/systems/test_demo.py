"""The demonstration itself: made once, kept private, served, told."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import create_engine, text

from maintenance_defs.control.home import Home
from maintenance_defs.demo import Demo, demo_server, is_prepared, prepare, reopened, run_demo
from maintenance_defs.demo.data import make_objects
from maintenance_defs.demo.retention import give_back
from maintenance_defs.retention.gate import execute
from maintenance_defs.retention.planning import take_plan
from tests.systems.conftest import ROOT


def rows(url: str) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        number: int = connection.execute(text("SELECT count(*) FROM assets")).scalar_one()
    engine.dispose()
    return number


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", {})


def test_preparing_again_makes_nothing_anew(home: Home) -> None:
    assert not is_prepared(home)
    with prepare(home, ROOT) as demo:
        assert len(demo.built) == 5
        first = {file: file.stat().st_ino for file in demo.systems[0].store("pages").rglob("*")}
    with prepare(home, ROOT) as demo:
        assert demo.built == ()
        assert {file: file.stat().st_ino for file in demo.systems[0].store("pages").rglob("*")} == first
    assert is_prepared(home)
    assert (home.path / "demo" / "environment.json").stat().st_mode & 0o777 == 0o600


def test_a_verb_finds_the_server_up_even_on_another_port(home: Home) -> None:
    with prepare(home, ROOT) as demo:
        old = demo.environment["RADIO_DATABASE_URL"]
    (home.path / "demo" / "postgres" / "port").write_text("0")  # as if another program had taken it
    with demo_server(reopened(home)) as served:
        now = served.value("RADIO_DATABASE_URL", "the test")
        assert rows(now) == 7
        assert served.is_demo("RADIO_DATABASE_URL")
    assert old.rpartition("@")[0] == now.rpartition("@")[0]


def test_a_build_that_broke_off_is_begun_again(home: Home) -> None:
    with prepare(home, ROOT) as demo:
        radio = next(one for one in demo.systems if one.system.name == "radio")
    marker = home.path / "demo" / "prepared.json"
    prepared = json.loads(marker.read_text())
    del prepared["radio"]
    marker.write_text(json.dumps(prepared))
    (radio.store("audio") / "music/night-drive.mp3").unlink()
    (radio.store("audio") / "half-written").write_bytes(b"")
    with prepare(home, ROOT) as demo:
        assert demo.built == ("radio",)
        assert (radio.store("audio") / "music/night-drive.mp3").stat().st_size == 10_000_000
        assert not (radio.store("audio") / "half-written").exists()
        assert rows(demo.environment["RADIO_DATABASE_URL"]) == 7


def test_no_server_is_started_for_databases_of_ones_own(demo: Demo, home: Home) -> None:
    own = {name: url for name, url in demo.environment.items() if url.startswith("postgresql")}
    (home.path / "demo").mkdir(parents=True)
    (home.path / "demo" / "environment.json").write_text(json.dumps({"variables": dict(demo.environment)}))
    with demo_server(Home(home.path, own)) as same:
        assert not (home.path / "demo" / "postgres").exists()
        assert not same.is_demo("RADIO_DATABASE_URL")


def test_objects_have_their_size_and_time_and_cost_no_disk(tmp_path: Path) -> None:
    select = (
        "SELECT 's' AS store, 'a/b c%.wav' AS key, 5000000 AS size_bytes, "
        "TIMESTAMPTZ '2025-01-01 00:00Z' AS modified_at"
    )
    make_objects(tmp_path, select, lambda items: None)
    facts = (tmp_path / "s" / "a" / "b c%.wav").stat()
    assert (facts.st_size, facts.st_mtime) == (5_000_000, 1735689600)
    assert facts.st_blocks * 512 < 100_000


def told(home: Home) -> tuple[int, str]:
    shown = io.StringIO()
    return run_demo(home, ROOT, Console(file=shown, width=120)), shown.getvalue()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, int, str]:
    """A home on which the demonstration was run once; how many systems it could not show; its words."""
    home = Home(tmp_path_factory.mktemp("story") / "home", {})
    return home, *told(home)


def data(home: Home) -> dict[str, object]:
    """Every file of the stores with size and time, every row of the databases, what the ledgers and plans are."""
    found: dict[str, object] = {}
    with prepare(home, ROOT) as demo:
        for one in demo.systems:
            if not one.system.retention:
                continue
            name = one.system.name
            for path in sorted((one.target / "stores").rglob("*")):
                if path.is_file() and ".maintenance" not in path.parts:
                    found[f"{name}/{path}"] = (path.stat().st_size, path.stat().st_mtime_ns)
            engine = create_engine(demo.environment[one.system.database.url_env])
            tables = {reference.table for reference in one.system.references}
            tables |= {policy.select.rows for policy in one.system.retention.values() if policy.select.rows}
            with engine.connect() as connection:
                for table in sorted(tables):
                    rows = connection.execute(text(f"SELECT * FROM {table} ORDER BY 1")).all()
                    found[f"{name}/{table}"] = [tuple(map(str, row)) for row in rows]
            engine.dispose()
            found[f"{name}/ledger"] = home.control.retention.chain_end(name)
            found[f"{name}/plans"] = [plan.id for plan in home.control.retention.plans(name)]
    return found


def test_the_story_names_what_was_found_and_no_secret(first: tuple[Home, int, str]) -> None:
    home, unfinished, story = first
    assert unfinished == 0, story
    for said in (
        "reports/fallback_1754600000000_dddddd/asset_1754600000801_dddddddd1.pdf",
        "✅ All 150 DB records have corresponding files",
        "raw/1763000000000-abc123.wav",
        "Check unlinked_segments: 1.",
        "./maintain explain colouring assets/lion/pl_preview.png",
    ):
        assert said in story
    assert (home.path / "demo" / "postgres" / "password").read_text() not in story


def test_the_story_goes_on_with_retention_in_four_systems(first: tuple[Home, int, str]) -> None:
    _, _, story = first
    for said in (
        "3 units: 3 objects (541 kB)",
        "applied: 3 acts put into quarantine\n    restored: 3 acts",
        "applied: 4 acts put into quarantine, 4 acts deleted\n    restored: 8 acts",
        "applied: 1 act put into quarantine, 2 acts deleted\n    restored: 3 acts",
        "applied: 2 acts put into quarantine, 2 acts changed\n    restored: 4 acts",
        "migrated: archive_columns",
        "applied: 4 acts changed\n    restored: 4 acts",
        "not applied here: this would delete 10 MB without a way back",
        "Whatever was taken was given back",
    ):
        assert said in story, said


def test_a_second_run_tells_the_same_and_changes_nothing(first: tuple[Home, int, str]) -> None:
    home, _, story = first
    before = data(home)
    unfinished, again = told(home)
    assert unfinished == 0, again
    assert data(home) == before
    assert before["colouring/ledger"] != (0, "0" * 64)
    differs = ("Made ", "Using ", "In ", "  migrated: ")
    lines = [[line for line in one.splitlines() if not line.startswith(differs)] for one in (story, again)]
    assert lines[0] == lines[1]


def test_what_a_stopped_demonstration_took_is_given_back(first: tuple[Home, int, str]) -> None:
    home, _, _ = first
    before = data(home)
    with prepare(home, ROOT) as demo:
        home = reopened(home)
        one = next(one for one in demo.systems if one.system.name == "colouring")
        plan = take_plan(one.system, "orphaned_files", home, run_id="demo-stopped")
        state = home.control.retention
        state.approve(plan.id, plan.digest, plan.units, "maintain demo", "test", expires_at=plan.expires_at)
        execute(one.system, plan.id, home, run_id="demo-stopped")
        assert not (one.store("pages") / "assets/lion/pl_preview.png").exists()
        give_back(one, home)
        give_back(one, home)
    after = data(home)
    assert {k: v for k, v in after.items() if k not in ("colouring/ledger", "colouring/plans")} == {
        k: v for k, v in before.items() if k not in ("colouring/ledger", "colouring/plans")
    }
