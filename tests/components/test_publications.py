"""What a reconciliation tells the application: a table of ours, written after each complete one (S3-37)."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import dagster as dg
import pytest

from maintenance_defs.components.maintained_system import system_definitions
from maintenance_defs.core.declaration import Publication, System
from tests.components.conftest import Club

HEALTH = """
CREATE TABLE doc_health (doc INTEGER PRIMARY KEY, checked_at TEXT NOT NULL, effective_key TEXT, state TEXT NOT NULL,
                         reason TEXT)
"""


@pytest.fixture
def told(papers: System) -> System:
    one = Publication(describe="Which papers are there.", table="doc_health", id="doc", of="docs")
    return papers.model_copy(update={"publishes": {"doc_health": one}})


def reconcile(told: System, club: Club, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    definitions = dg.Definitions.merge(
        system_definitions(told, club.folder), dg.Definitions(resources={"home": club.home})
    )
    job = definitions.resolve_job_def("papers_reconciliation")
    return job.execute_in_process(instance=instance, raise_on_error=False)


def test_a_reconciliation_writes_what_it_found(told: System, club: Club, instance: dg.DagsterInstance) -> None:
    club.sql(HEALTH)
    assert reconcile(told, club, instance).success
    with closing(sqlite3.connect(club.database)) as connection:
        rows = {doc: rest for doc, *rest in connection.execute("SELECT doc, effective_key, state FROM doc_health")}
    assert len(rows) == 10
    assert rows[3] == [None, "broken"]
    assert rows[4] == ["docs/4.pdf", "ok"]
    written = instance.get_latest_materialization_event(dg.AssetKey(["papers", "doc_health"]))
    assert written is not None
    assert written.asset_materialization is not None
    assert written.asset_materialization.metadata["ok"].value == 9


def test_without_its_table_the_reconciliation_is_whole_and_says_so(
    told: System, club: Club, instance: dg.DagsterInstance
) -> None:
    result = reconcile(told, club, instance)
    assert result.success
    assert instance.get_latest_materialization_event(dg.AssetKey(["papers", "doc_health"])) is None
