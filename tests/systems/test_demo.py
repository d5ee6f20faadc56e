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


def test_the_story_names_what_was_found_and_no_secret(home: Home) -> None:
    shown = io.StringIO()
    unfinished = run_demo(home, ROOT, Console(file=shown, width=120))
    story = shown.getvalue()
    assert unfinished == 0
    for said in (
        "reports/fallback_1754600000000_dddddd/asset_1754600000801_dddddddd1.pdf",
        "✅ All 150 DB records have corresponding files",
        "raw/1763000000000-abc123.wav",
        "Check unlinked_segments: 1.",
        "./maintain explain colouring assets/lion/pl_preview.png",
    ):
        assert said in story
    assert (home.path / "demo" / "postgres" / "password").read_text() not in story
