"""A unit's life under deaths and writers: hot plus archive is what the application wrote, whatever dies when (I118)."""

from __future__ import annotations

from pathlib import Path

import pytest

from maintenance_defs.archive.units import leaving
from tests.archive.life_world import SHAPES, LifeWorld

# 210 worlds with --long: three shapes of table, seventy seeds, four attempts each of which three die.
OFTEN = (0, 1, 2, 62)  # 62: killed between two exports of the same generation
SEEDS = [*OFTEN, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(70) if seed not in OFTEN)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_or_doubled_whatever_dies_when(seed: int, shape: str, tmp_path: Path, pg_database: str) -> None:
    world = LifeWorld(tmp_path, pg_database, shape, seed=seed)
    world.until_done(deaths=3)
    assert world.pending() == []


def test_rows_changed_between_proof_and_deletion_stay_and_are_not_in_the_archive(
    tmp_path: Path, pg_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F78: exactly those that changed survive; the archive does not show them as they were, nor what was deleted."""
    world = LifeWorld(tmp_path, pg_database, "plain", acts_left=0)
    january = sorted(id for id, row in world.model.items() if row[3].month == 1)
    real = leaving.delete_rows

    def meanwhile(*args: object, **kwargs: object) -> object:
        if not world.told:
            world.told.append("changed")
            world.sql(
                f"UPDATE logs SET body = 'later' WHERE id = {january[0]}", f"DELETE FROM logs WHERE id = {january[1]}"
            )
            world.model[january[0]] = (*world.model[january[0]][:4], "later")
            del world.model[january[1]]
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(leaving, "delete_rows", meanwhile)
    world.told.clear()
    done = world.archive()
    assert done is not None and done.state == "done", done
    world.check()
    hot = {id for (id,) in world.sql("SELECT id FROM logs WHERE at < '2025-02-01Z'")}
    assert hot == {january[0]}
    world.until_done(deaths=0)
    assert world.sql("SELECT id FROM logs WHERE at < '2025-03-01Z'") == []
