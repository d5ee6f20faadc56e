"""What the tables of an archive's plan say where lines are put together."""

from __future__ import annotations

from maintenance_defs.reporting.archive_text import LISTED, _by_month


def test_an_organisation_of_thirty_daily_partitions_is_one() -> None:
    cells = [("2026-09", who, 5, 0, "to the archive", "cold") for who in ("acme", "beta") for _ in range(LISTED)]
    cells += [("2026-10", "acme", 5, 0, "to the archive", "cold") for _ in range(3)]
    lines = [line.split() for line in _by_month(cells)][1:]
    assert lines[0][:4] == ["2026-09", "2", "organisations", str(10 * LISTED)]
    assert lines[1][:3] == ["2026-10", "acme", "15"]
