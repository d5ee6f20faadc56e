"""What one reconciliation says, gathered from its artefacts: one shape for JSON, text, Markdown and Dagster.

`facts` is documented in docs/report.md and stable; texts are views of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import ArtefactError, Refused
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.core.schemas import OBJECT_ITEMS, ROW_ITEMS
from maintenance_defs.reporting import facts as report_facts
from maintenance_defs.reporting.exports import ORPHANS, Found
from maintenance_defs.reporting.storage_maintenance import storage_maintenance
from maintenance_defs.reporting.text import SAMPLE_ROWS, as_markdown, as_text, count, known

MISSING = ("missing_candidate", "missing_confirmed")
ITEMS = (*OBJECT_ITEMS, *ROW_ITEMS)


@dataclass(frozen=True)
class Report:
    """One diff with the inventories and references it was made from.

    facts: plain JSON values only.
    """

    system: System
    home: Home
    diff: Artefact
    facts: dict[str, Any]
    found: Found

    @classmethod
    def load(cls, system: System, home: Home, diff: Artefact | None = None) -> Report:
        """The report of `diff`, or of the newest one. Reads our own artefacts only.

        Raises ArtefactError when the system has not been reconciled, or a file is not what it was.
        """
        diff = diff or home.control.latest(system.name, "orphan_diff")
        if diff is None:
            raise ArtefactError(
                f"{system.name} has not been reconciled yet. Run `maintain report {system.name}` without --last."
            )
        folder = home.artefacts.local(diff.uri, diff.digest) if diff.uri else None
        found = Found(folder)
        facts = report_facts.gather(system, home, diff)
        for store in facts["stores"]:
            if store["cutoff"] is not None:
                store["orphans"] = cls._samples(home, system, found, store["name"])
        facts["rows"]["missing"] = [
            {name: row[name] for name in ("source", "row_id", "key", "store", "item", "reason")}
            for row in found.rows(MISSING, SAMPLE_ROWS)
        ]
        facts["near_misses"] = [
            {name: row[name] for name in ("store", "key", "near_miss", "reason")}
            for row in found.rows(("ambiguous",), SAMPLE_ROWS)
        ]
        return cls(system, home, diff, facts, found)

    @staticmethod
    def _samples(home: Home, system: System, found: Found, store: str) -> list[dict[str, Any]]:
        samples = []
        for row in found.rows(ORPHANS, SAMPLE_ROWS, store=store):
            seen = [
                finding["first_seen_at"]
                for batch in home.control.findings(system.name, store, key=row["key"])
                for finding in batch.to_pylist()
                if finding["item"] == row["item"]
            ]
            samples.append(
                {
                    "key": row["key"],
                    "size_bytes": row["size_bytes"],
                    "modified_at": row["modified_at"] and format_instant(row["modified_at"]),
                    "reason": row["reason"],
                    "first_seen": format_instant(min(seen)) if seen else None,
                }
            )
        return samples

    @property
    def has_findings(self) -> bool:
        """Whether a person should look: an orphan, a broken row, a failed check, a tripped guard."""
        summary = self.facts["summary"]
        return bool(
            summary["orphaned_files"]
            or summary["orphaned_records"]
            or summary["corrupt_files"]
            or any(
                store["limit_bytes"] and store["size_bytes"] > store["limit_bytes"] for store in self.facts["stores"]
            )
            or any(check["count"] for check in self.facts["checks"])
            or any(guard["status"] != "pass" for guard in self.facts["guards"])
        )

    def summary(self) -> dict[str, Any]:
        """The verdict and the numbers, for one line a system."""
        names = ("system", "run_id", "artefact", "as_of", "verdict", "reason", "message", "summary")
        return {name: self.facts[name] for name in names}

    def headline(self) -> str:
        """One line without its newline."""
        facts, numbers = self.facts, self.facts["summary"]
        # What was not listed is not 0.
        some = any(store["inventory"]["verdict"] == "complete" for store in facts["stores"])
        listed = count(numbers["objects"], "object") if some else "objects not listed"
        return (
            f"{facts['system']} as of {facts['as_of']}: {facts['verdict']}"
            + (f" ({facts['reason']})" if facts["reason"] else "")
            + f", {listed}, orphaned files {known(numbers['orphaned_files'])}, "
            f"orphaned records {known(numbers['orphaned_records'])}, not decided {numbers['undecided']:,}"
        )

    def to_json(self) -> str:
        """docs/report.md says what stands where; one newline at the end."""
        return json.dumps(self.facts, ensure_ascii=False, indent=2) + "\n"

    def to_text(self) -> str:
        return as_text(self.facts)

    def to_markdown(self) -> str:
        return as_markdown(self.facts)

    def to_storage_maintenance(self) -> str:
        """The text of S2-13; `storage_maintenance_lines` streams it."""
        return "".join(self.storage_maintenance_lines())

    def storage_maintenance_lines(self) -> Iterator[str]:
        created = "key, strftime(modified_at, '%Y-%m-%d') AS created"
        return storage_maintenance(
            self.facts,
            _rows(self.found.batches(ORPHANS, select=created)),
            _rows(self.found.batches(MISSING, select="key")),
        )

    def export(self, target: Path | IO[bytes], format_: str, items: Sequence[str] = ORPHANS) -> int:
        """Write items to a file or stream (`Found.export`); their number.

        Raises Refused for delete commands when no claim may be built on this reconciliation.
        """
        commands = format_ in ("r2", "wrangler")
        if commands and (self.diff.verdict != "complete" or tuple(items) != ORPHANS):
            raise Refused(
                self.diff.reason or "not_orphans",
                f"delete commands are written for the orphans of a complete reconciliation only; this one of "
                f"{self.system.name} is {self.diff.verdict}, and the items asked for are {', '.join(items)}. "
                f"Nothing was written. Export csv to look at it, or reconcile again.",
            )
        buckets = {store["name"]: store["bucket"] for store in self.facts["stores"] if store["bucket"]}
        findings = self.home.control.findings(self.system.name)
        return self.found.export(target, format_, items, findings=findings, buckets=buckets)


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()
