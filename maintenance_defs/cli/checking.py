"""The verbs that look whether all is well: doctor, at connections and declarations; validate, at the data."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli.shared import (
    CLEAN,
    ERROR,
    FINDINGS,
    as_of_option,
    load_all,
    load_system,
    print_json,
    progress,
    system_argument,
    verb,
    working_home,
)

if TYPE_CHECKING:
    from datetime import datetime

    from maintenance_defs.core.declaration import System
    from maintenance_defs.core.trails import Trail
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


@click.command(
    short_help="Ask the checks of a system: does its data hold together?",
    context_settings={"ignore_unknown_options": True},  # a trail's name is an option of its system
)
@system_argument
@click.argument("trail", nargs=-1, type=click.UNPROCESSED, metavar="[--TRAIL ID]")
@click.option("--last", is_flag=True, help="Tell of the last reconciliation; read neither store nor database.")
@click.option("--row", nargs=2, metavar="TABLE ID", help="Follow one row to its objects instead.")
@as_of_option
@verb
def validate(
    name: str,
    trail: tuple[str, ...],
    last: bool,
    row: tuple[str, str] | None,
    as_of: datetime | None,
    as_json: bool,
) -> int:
    """Reconcile SYSTEM, and say of each of its checks whether it holds; then whether its ledger is as it was written.

    Exits with 1 when a check of severity error does not hold, with 2 when one could not be asked. With --row, or the
    name of a declared trail as an option: follows one row to the rows that belong to it and the objects they name, and
    says which link is broken first.

    \b
      maintain validate shop
      maintain validate shop --row orders 1024
      maintain validate shop --order 1024
    """
    if row is not None or trail:
        if last or as_of is not None or (row is not None and trail):
            raise click.UsageError("--row and trails read the database now; they stand alone")
        return _trace(name, row, trail, as_json)
    from maintenance_defs.reporting.report import Report
    from maintenance_defs.reporting.retention_text import chain_line, check_line

    if last and as_of is not None:
        raise click.UsageError("--last tells of a reconciliation that is done; it takes no --as-of")
    loaded = load_system(name)
    with working_home(serve=not last) as home:
        diff = None
        if not last:
            from maintenance_defs.reconcile.run import reconcile

            with progress(shown=not as_json) as step:
                diff = reconcile(loaded.system, home, folder=loaded.folder, as_of=as_of, step=step)
        facts = Report.load(loaded.system, home, diff).facts
        broken = home.control.retention.verify_chain(loaded.system.name)
    chain = None if broken is None else {"plan": broken.plan_id, "seq": broken.seq, "what": broken.what}
    statuses = {check["name"]: _status(check) for check in facts["checks"]}
    if as_json:
        checks = [check | {"status": statuses[check["name"]]} for check in facts["checks"]]
        print_json({"system": name, "as_of": facts["as_of"], "checks": checks, "ledger": chain})
    else:
        click.echo(f"{name} as of {facts['as_of']}")
        for check in facts["checks"]:
            mark, colour = MARKS[statuses[check["name"]]]
            click.echo(f"{click.style(f'{mark:4}', fg=colour)}  {check_line(check)}")
        mark, colour = MARKS["fail" if chain else "ok"]
        click.echo(f"{click.style(f'{mark:4}', fg=colour)}  {chain_line(chain)}")
    if chain or "fail" in statuses.values():
        return FINDINGS
    return ERROR if "unknown" in statuses.values() else CLEAN


def _trace(name: str, row: tuple[str, str] | None, given: tuple[str, ...], as_json: bool) -> int:
    """Exit code 1 when a link is broken."""
    from dataclasses import asdict

    from maintenance_defs.reporting.text import shown
    from maintenance_defs.reporting.trace import follow, trace_row

    system = load_system(name).system
    trail, row_id = _trail(system, given) if row is None else (None, "")
    with working_home() as home:
        links = trace_row(system, home, *row) if row is not None else []
        links += follow(system, home, trail, row_id) if trail is not None else []
    broken = next((link for link in links if link.good is False), None)
    if as_json:
        print_json({
            "system": name, "links": [asdict(link) for link in links], "first_broken": broken and asdict(broken)
        })  # fmt: skip
        return FINDINGS if broken else CLEAN
    for link in links:
        mark, colour = MARKS["unknown" if link.good is None else "ok" if link.good else "fail"]
        click.echo(f"{click.style(f'{mark:4}', fg=colour)}  {shown(link.what)} {link.detail}")
    click.echo(f"First broken link: {shown(broken.what)}." if broken else "No link is broken.")
    return FINDINGS if broken else CLEAN


def _trail(system: System, given: tuple[str, ...]) -> tuple[Trail, str]:
    """What `--segment ID` or `--segment=ID` means. Raises UsageError that names the declared trails."""
    option, equals, value = given[0].partition("=")
    rest = (value, *given[1:]) if equals else given[1:]
    trail = system.trails.get(option.removeprefix("--").replace("-", "_")) if option.startswith("--") else None
    if trail is None:
        known = ", ".join(f"--{name}" for name in system.trails) or "none"
        raise click.UsageError(f"no such option or trail of {system.name}: {option}. Its trails: {known}")
    if len(rest) != 1:
        raise click.UsageError(f"{option} takes the id of one row of {trail.table}")
    return trail, rest[0]


def _status(check: dict[str, Any]) -> str:
    if check["count"] is None:
        return "unknown"
    if not check["count"]:
        return "ok"
    return "fail" if check["severity"] == "error" else "warn"
