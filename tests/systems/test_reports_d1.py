"""A0 on the live database: reports whose rows are in Cloudflare D1, asked and changed over HTTP (S0-46)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from maintenance_defs.core.errors import Refused
from maintenance_defs.reporting.doctor import examine
from tests.support.d1 import D1, TOKEN, d1_server, writes
from tests.systems.acting import Acting, acting
from tests.systems.answers import counts, found
from tests.systems.conftest import Bench
from tests.systems.test_reports import STRAY
from tests.systems.test_reports_retention import ARCHIVED, FILES, NEWEST, SUPERSEDED, report_of

Make = Callable[..., Bench]
EDITOR = "token-that-may-edit"


class Live(Acting):
    """Reports on D1. The application writes to the same file behind the server's back."""

    d1: D1

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        served = self.bench.environment["REPORTS_DATABASE_URL"]
        self.bench.environment["REPORTS_DATABASE_URL"] = f"sqlite:///{self.d1.file}"
        try:
            return super().sql(statement)
        finally:
            self.bench.environment["REPORTS_DATABASE_URL"] = served


@pytest.fixture
def live(bench: Make) -> Iterator[Live]:
    made = acting(bench("reports"), REPORTS_REPLACE="true")
    made.migrate("archive_columns")  # on the file, as `wrangler d1 execute --file` would
    file = Path(made.bench.environment["REPORTS_DATABASE_URL"].removeprefix("sqlite:///"))
    with d1_server(file) as d1:
        d1.tokens = {TOKEN: False, EDITOR: True}
        live = Live(made.bench, folders=made.folders)
        live.d1 = d1
        live.set(REPORTS_DATABASE_URL=d1.place, REPORTS_D1_TOKEN=TOKEN, REPORTS_D1_WRITE_TOKEN=EDITOR)
        yield live


def test_reconciliation_says_of_d1_what_it_says_of_a_file(live: Live) -> None:
    report = report_of(live)
    assert report.diff.verdict == "complete", report.facts["message"]
    assert found(report, "orphan_candidate") == [STRAY]
    assert counts(report, "reports") == {"matched": 11, "orphan_candidate": 1}
    assert not any(writes(asked) for asked in live.d1.asked)


def test_superseded_rows_are_marked_and_set_back(live: Live) -> None:  # A0-3
    before = live.sql("SELECT * FROM report_assets ORDER BY id")
    plan = live.plan("superseded_reports")
    assert live.row_ids(plan) == SUPERSEDED
    live.approve(plan)
    assert live.execute(plan).counts == {"set": 4}
    assert live.column(ARCHIVED) == SUPERSEDED
    assert live.restore(plan).counts == {"restored": 4}
    assert live.sql("SELECT * FROM report_assets ORDER BY id") == before


def test_replaced_rows_and_objects_go_and_come_back(live: Live) -> None:  # A0-5
    before = live.sql("SELECT * FROM report_assets ORDER BY id")
    plan = live.plan("replaced_reports")
    assert (live.keys(plan), live.row_ids(plan)) == (FILES, SUPERSEDED)
    live.approve(plan)
    done = live.execute(plan)
    assert (done.state, done.counts) == ("done", {"quarantined": 4, "deleted": 4})
    assert (len(live.sql("SELECT * FROM report_assets")), len(live.objects("reports"))) == (7, 8)
    assert live.restore(plan).counts == {"restored": 8}
    assert live.sql("SELECT * FROM report_assets ORDER BY id") == before
    assert len(live.objects("reports")) == 12


def test_delivery_that_is_the_newest_again_when_it_would_go_stays(live: Live) -> None:  # I6
    plan = live.plan("replaced_reports")
    live.approve(plan)
    live.sql(f"DELETE FROM report_assets WHERE id IN ('{NEWEST[0]}', '{NEWEST[1]}')")
    live.execute(plan)
    assert set(SUPERSEDED[2:]) <= set(live.column("SELECT id FROM report_assets"))
    assert set(FILES[2:]) <= set(live.objects("reports"))


def test_reading_token_cannot_change_rows(live: Live) -> None:  # H14
    live.set(REPORTS_D1_WRITE_TOKEN=TOKEN)
    plan = live.plan("superseded_reports")
    live.approve(plan)
    assert live.execute(plan).counts == {"failed": 4}
    assert live.column(ARCHIVED) == []


def test_migrations_are_told_and_left_to_wrangler(live: Live) -> None:
    with pytest.raises(Refused, match="wrangler d1 execute"):
        live.migrate("version_columns")


def test_doctor_names_the_kind_and_no_token(live: Live) -> None:
    findings = list(examine(live.system, live.home, where=lambda _: "defs.yaml:1", folder=live.bench.one.source))
    said = [finding.what for finding in findings if finding.subject == "database"]
    assert any(words.startswith("d1://") and "Cloudflare D1" in words for words in said), said
    assert not any(TOKEN in repr(finding) or EDITOR in repr(finding) for finding in findings)
