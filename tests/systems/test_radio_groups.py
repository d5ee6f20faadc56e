"""Raw audio of the segments that changed, on PostgreSQL: the watched table tells which assets are planned (S3-60)."""

from __future__ import annotations

from collections.abc import Callable

from maintenance_defs.core.triggers import RowSensor
from maintenance_defs.declarations import deployment_root, load_triggers
from maintenance_defs.reconcile.reading.news import read_news
from maintenance_defs.retention.planning import take_plan
from tests.systems.acting import acting
from tests.systems.conftest import Bench
from tests.systems.test_radio_retention import DEF, asset, segment

Make = Callable[..., Bench]


def test_only_the_assets_of_changed_segments_are_planned(bench: Make) -> None:
    radio = acting(bench("radio"))
    declared = [loaded.trigger for loaded in load_triggers(deployment_root())]
    [sensor] = [one for one in declared if isinstance(one, RowSensor) and one.system == "radio"]
    first = read_news(sensor, radio.system, radio.home, None)
    assert first is not None and first.groups is None  # what was there before is no news
    radio.sql(f"UPDATE segments SET updated_at = now() WHERE id IN ('{segment(3)}', '{segment(1)}', '{segment(4)}')")
    news = read_news(sensor, radio.system, radio.home, first.position)
    assert news is not None
    assert news.groups == (asset(3),)  # s01 has no asset, s04 is neither ready nor aired
    assert news.said in (f"segment {segment(3)} is ready", f"segment {segment(1)} is ready")
    assert read_news(sensor, radio.system, radio.home, news.position) is None
    radio.reconcile()
    plan = take_plan(radio.system, "raw_after_final", radio.home, run_id="test", groups=news.groups)
    assert (radio.keys(plan), radio.row_ids(plan), plan.groups) == ([DEF], [asset(3)], news.groups)
    assert take_plan(radio.system, "raw_after_final", radio.home, run_id="t", groups=[asset(7)]).units == 0
    radio.approve(plan)
    assert radio.execute(plan).counts == {"set": 1, "quarantined": 1}
