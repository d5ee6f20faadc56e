"""What `maintain demo` shows: five systems reconciled as of their own day, retention, archives, what to try next."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.core.quantities import format_instant, format_size
from maintenance_defs.demo.archive import give_archives_back, show_archives
from maintenance_defs.demo.data import DemoSystem, demo_folder, prepare, reopened
from maintenance_defs.demo.retention import give_back, migrate_first, show_retention

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from maintenance_defs.control.home import Home

SHOWN_ITEMS = 4  # of each kind and system; the whole report is one command away
NEXT = """Try next:
  ./maintain report radio --last                            the whole report
  ./maintain explain colouring assets/lion/pl_preview.png   why that file is an orphan
  ./maintain plan colouring                                 what a policy would remove, and why
  ./maintain report colouring --history assets/lion/pl_preview.png   what became of that file
  ./maintain archive query "SELECT level, count(*) FROM execution_log_all GROUP BY 1"
  ./maintain growth executions                              which tables grow, beside what was estimated
  ./maintain doctor                                         connections, columns, rights, clocks
  ./maintain dev                                            the same in the Dagster UI
"""


def run_demo(home: Home, root: Path, console: Console, *, scale: int = 0) -> int:
    """Make the data, reconcile every system as of its own day, show its policies at work, say what to try next.

    Whatever a policy takes is given back before the next one is shown, so that another run finds the same.
    Returns the number of systems whose reconciliation is not complete, or whose retention could not be shown.
    """
    # Here, because every verb imports this package for its server, and this is the heavy part.
    from rich.table import Table

    from maintenance_defs.reconcile.run import reconcile
    from maintenance_defs.reporting.report import Report

    began = time.monotonic()
    unfinished = 0
    totals = Table("system", "as of", "objects", "size", "orphaned", "missing", "verdict", box=None, pad_edge=False)
    with (
        console.status("...") as status,
        prepare(home, root, scale=scale, step=lambda what, _: status.update(what)) as demo,
    ):
        home = reopened(home)
        console.print(f"{'Made' if demo.built else 'Using'} the demonstration data in {demo_folder(home)}", style="dim")
        for one in demo.systems:
            name = one.system.name
            told = functools.partial(_tell, status, name)
            mine = reopened(home, one.environment)
            before = _before(one, mine)
            diff = reconcile(one.system, home, folder=one.source, as_of=one.as_of, step=told)
            report = Report.load(one.system, home, diff)
            console.rule(f"[bold]{name}[/bold]  as of {format_instant(one.as_of)}", align="left")
            console.print(one.system.description, style="dim", markup=False)
            if one.system.report == "storage_maintenance":
                console.print(report.to_storage_maintenance(), markup=False, highlight=False, soft_wrap=True)
            else:
                for line in _findings(report.facts):
                    console.print(line, markup=False, highlight=False, soft_wrap=True)
                console.print()
            if one.system.growth.projections:
                console.print(_growth(one, home), markup=False, highlight=False, soft_wrap=True)
                console.print()
            told("retention", 0)
            afresh = name in demo.built
            archives = show_archives(one, mine, afresh=afresh)
            if one.system.retention:
                well = _show(console, "Retention", _after(before, show_retention(one, mine, afresh=afresh)))
                well &= _show(console, "Archive", archives)
            else:
                well = _show(console, "Archive", _after(before, archives))
            listed = [store for store in report.facts["stores"] if store["inventory"]["verdict"] == "complete"]
            totals.add_row(
                name,
                format_instant(one.as_of)[:10],
                f"{sum(store['objects'] for store in listed):,}",
                format_size(sum(store["size_bytes"] for store in listed)),
                _known(report.facts["summary"]["orphaned_files"]),
                _known(report.facts["summary"]["orphaned_records"]),
                diff.verdict,
            )
            unfinished += diff.verdict != "complete" or not well
    console.rule("[bold]All systems[/bold]", align="left")
    console.print(totals)
    console.print(f"\nIn {time.monotonic() - began:.0f} s. Whatever was taken was given back: the data is as it was.\n")
    console.print(NEXT, markup=False, highlight=False, soft_wrap=True)
    return unfinished


def _tell(status: Status, name: str, what: str, items: int) -> None:
    status.update(f"{name}: {what}")


def _before(one: DemoSystem, home: Home) -> list[tuple[str, bool]]:
    """What a stopped demonstration took comes back, and migrations are applied, so that each run finds the same."""
    try:
        give_back(one, home)
        give_archives_back(one, home)
        return [(line, True) for line in migrate_first(one, home)]
    except MaintenanceError as error:
        return [(str(error), False)]


def _after(before: list[tuple[str, bool]], lines: Iterable[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    """What came first, and the rest where that went well."""
    yield from before
    if all(good for _, good in before):
        yield from lines


def _show(console: Console, title: str, lines: Iterable[tuple[str, bool]]) -> bool:
    """Print the lines below their title; whether all is well."""
    well = True
    first = True
    for line, good in lines:
        if first:
            console.print(title, style="bold")
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        well, first = well and good, False
    if not first:
        console.print()
    return well


def _growth(one: DemoSystem, home: Home) -> str:
    from maintenance_defs.growth.measure import measure
    from maintenance_defs.reporting.growth_facts import growth_facts
    from maintenance_defs.reporting.growth_text import growth_headline

    found = measure(one.system, home, run_id="demo", as_of=one.as_of)
    return growth_headline(growth_facts(one.system, home, found))


def _known(number: int | None) -> str:
    return "not checked" if number is None else f"{number:,}"


def _findings(facts: dict[str, Any]) -> Iterator[str]:
    """A few lines of a report: what is orphaned, what is missing, which checks and guards say something."""
    from maintenance_defs.reporting.text import shown

    orphans = [orphan for store in facts["stores"] for orphan in store["orphans"]]
    yield f"Files without a row: {_known(facts['summary']['orphaned_files'])}"
    yield from (f"  {shown(orphan['key'])}" for orphan in orphans[:SHOWN_ITEMS])
    yield f"Rows without a file: {_known(facts['summary']['orphaned_records'])}"
    yield from (f"  {row['source']} of {shown(row['row_id'])}" for row in facts["rows"]["missing"][:SHOWN_ITEMS])
    for check in facts["checks"]:
        if check["count"]:
            yield f"Check {check['name']}: {check['count']:,}. {check['describe']}"
    for guard in facts["guards"]:
        if guard["status"] != "pass":
            yield f"Guard {guard['name']} ({guard['status']}): {guard['message']}"
