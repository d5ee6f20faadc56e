"""Growth of the shipped systems: A3-10, A3-11, A4-12 as a person reads them, and what the demonstration measures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from maintenance_defs.control.home import Home
from maintenance_defs.growth.measure import measure
from maintenance_defs.reporting.growth_facts import growth_facts
from maintenance_defs.reporting.growth_text import growth_headline, growth_text
from tests.systems.conftest import Bench

Make = Callable[..., Bench]


def measured(system: Bench) -> dict[str, Any]:
    home = Home(system.folder / "home", system.environment)
    return growth_facts(system.system, home, measure(system.system, home, run_id="r", as_of=system.one.as_of))


def test_radio_is_told_by_table_and_by_prefix_beside_its_model(bench: Make) -> None:
    """A3-10, A3-11, S3-2, S3-6, S3-9, S3-33, S3-46: storage_analysis."""
    radio = bench("radio")
    run = radio.own_database()
    run("DROP TABLE kb_embeddings")
    radio.reconcile()
    facts = measured(radio)
    audio = facts["stores"][0]
    assert {scope["prefix"]: scope["size_bytes"] for scope in audio["scopes"]} == {
        "raw/": 20_000_000, "final/": 25_000_000, "music/": 10_000_000, "jingles/": 10_000_000, "sfx/": 0,
    }  # fmt: skip
    assert (audio["size_bytes"], audio["level"], audio["days_to_limit"]) == (65_000_000, "unknown", None)
    tables = {table["table"]: table for table in facts["tables"]}
    wanted = ("assets", "segments", "jobs", "programs", "djs", "voices", "music_tracks", "jingles", "kb_chunks")
    assert all(tables[f"public.{name}"]["size_bytes"] > 0 for name in wanted)
    assert tables["public.kb_embeddings"]["found"] is False
    assert {one["value"]: one["rows"] for one in tables["public.segments"]["by"]["values"]} == {
        "aired": 3, "ready": 3, "failed": 1, "normalizing": 1, "queued": 1,
    }  # fmt: skip
    text = growth_text(facts)
    for part in (
        "speech      576/day  5 MB  2.88 GB/day",
        "speech: each lasts 60 s at 5 MB a minute.",
        "final: kept for 7 d, so it stays at 10.08 GB projected, 15 MB by what was measured.",
        "Projected in all: 2.88 GB a day, 20.16 GB a week.",
        "public.kb_embeddings  not there",
    ):
        assert part in text, text


def test_executions_are_told_by_the_table_of_their_plan(bench: Make) -> None:
    """A4-12, S4-1, S4-2, S4-8: records a month, size of one, growth a month and risk; each beside its measurement."""
    facts = measured(bench("executions"))
    text = growth_text(facts)
    for part in (
        "execution_log          3,000,000/month        500 B        1.5 GB/month         CRITICAL",
        "phi_audit              100,000-500,000/month  1 kB-3 kB    300 MB-1.5 GB/month  CRITICAL",
        "rag_rules              50,000/month           5 kB-50 kB   1 GB/month           HIGH",
        "job_result             50,000/month           10 kB-50 kB  500 MB/month         HIGH",
        "execution_metadata     50,000/month           2.5 kB       125 MB/month         MEDIUM",
        "execution_screenshots  100,000-500,000/month  200 B        50 MB-100 MB/month   MEDIUM",
        "phi_audit: 300 MB-1.5 GB/month is what was stated; records x size gives 100 MB-1.5 GB/month.",
        "Projected in all: 3.475 GB-4.725 GB a month, 41.7 GB-56.7 GB a year.",
        "3.35 GB-3.4 GB a month, 40.2 GB-40.8 GB a year.",
    ):
        assert part in text, text
    assert all(one["measured"] is not None for one in facts["projections"])
    assert growth_headline(facts).startswith("Growth projected 3.475 GB-4.725 GB a month, 41.7 GB-56.7 GB a year; meas")


def test_images_and_videos_are_told_apart_before_and_after(bench: Make) -> None:
    """S1-42: the slope of each bucket until a clean-up, and since."""
    renders = bench("renders")
    videos = renders.own_store("videos")
    home = Home(renders.folder / "home", renders.environment)
    for days_ago in (4, 2, 0):
        at = renders.one.as_of - timedelta(days=days_ago)
        if days_ago:
            (videos / f"u/scene_{days_ago}.mp4").parent.mkdir(exist_ok=True)
            (videos / f"u/scene_{days_ago}.mp4").write_bytes(b"x" * 1000)
        renders.reconcile(as_of=at)
        found = measure(renders.system, home, run_id="r", as_of=at)
    facts = growth_facts(renders.system, home, found, before=renders.one.as_of - timedelta(days=2))
    slopes = {
        pair["name"]: (pair["before"]["bytes_per_day"], pair["now"]["bytes_per_day"])
        for pair in facts["before"]["compared"]
    }
    assert slopes["videos"] == (500, 250)
    assert slopes["images"] == (0, 0)


@pytest.mark.parametrize("name", ["reports", "colouring"])
def test_a_system_that_declares_nothing_of_growth_is_measured_all_the_same(bench: Make, name: str) -> None:
    """S0-2, S0-15."""
    system = bench(name)
    system.reconcile()
    facts = measured(system)
    assert facts["projected_per_month"] is None
    assert all(table["rows"] > 0 and table["size_bytes"] > 0 for table in facts["tables"])
    assert "Projected" not in growth_text(facts)
