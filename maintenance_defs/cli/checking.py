"""The verb that looks at connections, rights and declarations: doctor."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import click

from maintenance_defs.cli.shared import CLEAN, ERROR, load_all, load_system, print_json, verb, working_home

if TYPE_CHECKING:
    from maintenance_defs.reporting.finding import Finding

MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red"), "unknown": ("?", "cyan")}


@click.command(short_help="Check connections, rights, tables and clocks.")
@click.argument("name", metavar="[SYSTEM]", required=False)
@click.option("--write", is_flag=True, help="Also write and remove a canary below .maintenance/ in each store.")
@click.option("--production", is_flag=True, help="Also what production needs: the six points before a deployment.")
@click.option("--accept-pair", metavar="REASON", help="Accept SYSTEM's database and stores as they are paired now.")
@verb
def doctor(name: str | None, write: bool, production: bool, accept_pair: str | None, as_json: bool) -> int:
    """Check that everything can be reached and looks as declared; of all systems, where none is named.

    Says what was seen and what to do. Values of variables are never shown. Exits with 2 if something fails.
    """
    from maintenance_defs.reporting import doctor as examining

    if accept_pair is not None and name is None:
        raise click.UsageError("--accept-pair needs a SYSTEM")
    if accept_pair is not None and not accept_pair.strip():
        raise click.BadParameter(
            "say in a few words why the pair is right; it stays on record", param_hint="--accept-pair"
        )
    systems = [load_system(name)] if name else list(load_all().values())
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            mark, colour = MARKS[finding.status]
            click.echo(f"{click.style(f'{mark:4}', fg=colour)}  {finding.subject}: {finding.what}")
            if finding.todo:
                click.echo(f"      {finding.todo}")

    with working_home() as home:
        if accept_pair is not None:
            stores = examining.accept_pair(systems[0].system, home, getpass.getuser(), accept_pair)
            click.echo(f"Accepted as paired now: {', '.join(stores)}. Reconcile again.", err=True)
        for finding in examining.examine_deployment(home, production=production):
            tell(finding)
        for loaded in systems:
            if not as_json:
                click.echo(click.style(f"\n{loaded.system.name}", bold=True))
            for finding in examining.examine(
                loaded.system, home, where=loaded.where, folder=loaded.folder, write=write
            ):
                tell(finding)
            if production:
                for finding in examining.examine_readiness(loaded.system, home):
                    tell(finding)
    failed = sum(finding.status == "fail" for finding in findings)
    if as_json:
        print_json({"failed": failed, "findings": [finding.as_json() for finding in findings]})
    else:
        warned = sum(finding.status == "warn" for finding in findings)
        click.echo(f"\n{failed} failed, {warned} to look at, {len(findings) - failed - warned} well or unknown.")
    return ERROR if failed else CLEAN
