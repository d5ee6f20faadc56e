"""Reading a report's answers in tests."""

from __future__ import annotations

from typing import Any

from maintenance_defs.core.schemas import ROW_ITEMS
from maintenance_defs.reporting.report import Report

ANY_NUMBER = 1_000_000


def found(report: Report, item: str, store: str | None = None) -> list[str]:
    """The keys of one class (of rows: their ids), sorted."""
    field = "row_id" if item in ROW_ITEMS else "key"
    return sorted(row[field] for row in report.found.rows((item,), ANY_NUMBER, store=store))


def counts(report: Report, store: str) -> dict[str, int]:
    """Objects of each class that has some, the matched ones too."""
    facts = next(facts for facts in report.facts["stores"] if facts["name"] == store)
    return {item["item"]: item["count"] for item in facts["items"]}


def scopes(report: Report, store: str) -> dict[str, int]:
    """Bytes by scope."""
    facts = next(facts for facts in report.facts["stores"] if facts["name"] == store)
    return {scope["prefix"]: scope["size_bytes"] for scope in facts["scopes"]}


def check(report: Report, name: str) -> dict[str, Any]:
    return next(check for check in report.facts["checks"] if check["name"] == name)


def sample_ids(report: Report, name: str) -> list[str]:
    """The ids in a check's sample, sorted."""
    return sorted(str(row.get("id", row.get("row_id"))) for row in check(report, name)["sample"])


def query(report: Report, name: str) -> list[tuple[Any, ...]]:
    """The rows of a query that was answered."""
    answer = next(query for query in report.facts["queries"] if query["name"] == name)
    assert answer["message"] is None, answer["message"]
    return [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in answer["rows"]]
