"""The verbs that reconcile and tell: report, reconcile, explain."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from maintenance_defs.cli.shared import (
    CLEAN,
    ERROR,
    FINDINGS,
    PARTIAL,
    REFUSED,
    as_of_option,
    find_plan,
    load_system,
    print_json,
    progress,
    system_argument,
    verb,
    working_home,
)

if TYPE_CHECKING:
    from datetime import datetime

    from maintenance_defs.core.periods import Kind
    from maintenance_defs.reporting.report import Report

FORMATS = ("csv", "json", "parquet", "r2", "wrangler")

fail_option = click.option("--fail-on-findings", is_flag=True, help="Exit with 1 if there is something to look at.")


@click.command(short_help="Reconcile a system and print what was found.")
@system_argument
@click.option("--text", "style", flag_value="text", default=True, help="Print plain text (the default).")
@click.option("--markdown", "style", flag_value="markdown", help="Print Markdown.")
@click.option(
    "--export", "target", type=click.Path(dir_okay=False, path_type=Path), help="Also write the list to a file."
)
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), help="Of the list; without --export it is printed alone. [csv]"
)
@click.option(
    "--item", "items", multiple=True, metavar="CLASS", help="What to list: a class, or 'all'. [orphan_candidate]"
)
@click.option("--last", is_flag=True, help="Tell of the last reconciliation; read neither store nor database.")
@click.option("--plan", "prefix", metavar="PLAN", help="Tell what the ledger says of this plan instead.")
@click.option("--history", metavar="KEY", help="Tell what retention ever did to this key instead.")
@click.option("--day", is_flag=False, flag_value="", metavar="[DATE]", help="Tell of a day, or the last 24 hours.")
@click.option("--week", is_flag=False, flag_value="", metavar="[DATE]", help="Tell of a week, or the last seven days.")
@click.option("--month", metavar="YYYY-MM", help="Tell of a month instead: size, cost, reading time, acts, checks.")
@as_of_option
@fail_option
@verb
def report(
    name: str,
    style: str,
    target: Path | None,
    format_: str | None,
    items: tuple[str, ...],
    last: bool,
    prefix: str | None,
    history: str | None,
    day: str | None,
    week: str | None,
    month: str | None,
    as_of: datetime | None,
    fail_on_findings: bool,
    as_json: bool,
) -> int:
    """Reconcile SYSTEM and print what was found.

    Lists the stores, reads the database in one transaction, compares both ways. Changes neither:
    this is always a dry run.

    \b
      maintain report shop --export orphans.csv
      maintain report shop --last --format r2
      maintain report shop --last --item missing_candidate --format json
      maintain report shop --plan 1f0c93ab
      maintain report shop --history images/1024/front.jpg
      maintain report shop --day
      maintain report shop --week 2025-10-31
      maintain report shop --month 2025-10
    """
    pages: dict[Kind, str | None] = {"day": day, "week": week, "month": month}
    alone = [option for option in (prefix, history, *pages.values()) if option is not None]
    if alone:
        if last or as_of or target or format_ or items or len(alone) > 1:
            raise click.UsageError("--plan, --history, --day, --week and --month each stand alone")
        for kind, text in pages.items():
            if text is not None:
                return _page(name, kind, text, as_json)
        return _ledger(name, prefix, history, as_json)
    from maintenance_defs.reporting.exports import ORPHANS
    from maintenance_defs.reporting.report import ITEMS, Report

    if last and as_of is not None:
        raise click.UsageError("--last tells of a reconciliation that is done; it takes no --as-of")
    unknown = set(items) - {*ITEMS, "all"}
    if unknown:
        raise click.BadParameter(f"{', '.join(sorted(unknown))}. Known: {', '.join(ITEMS)}, all.", param_hint="--item")
    if target is not None and not target.absolute().parent.is_dir():
        # Before the work, which may take an hour.
        raise click.BadParameter(f"there is no folder {str(target.parent)!r}", param_hint="--export")
    chosen = ITEMS if "all" in items else items or ORPHANS
    loaded = load_system(name)
    with working_home(serve=not last) as home:
        diff = None
        if not last:
            from maintenance_defs.reconcile.run import reconcile as run

            with progress(shown=not as_json) as step:
                diff = run(loaded.system, home, folder=loaded.folder, as_of=as_of, step=step)
        found = Report.load(loaded.system, home, diff)
        if target is not None:
            try:
                written = found.export(target, format_ or "csv", chosen)
            except OSError as error:
                raise click.FileError(str(target), error.strerror or "it could not be written") from None
            click.echo(f"{written:,} items written to {target}.", err=True)
        if as_json:
            click.echo(found.to_json(), nl=False)
        elif format_ is not None and target is None:
            found.export(sys.stdout.buffer, format_, chosen)
        elif style == "markdown":
            click.echo(found.to_markdown(), nl=False)
        elif loaded.system.report == "storage_maintenance":
            for line in found.storage_maintenance_lines():
                click.echo(line, nl=False)
        else:
            click.echo(found.to_text(), nl=False)
    return exit_code(found, fail_on_findings=fail_on_findings)


def _page(name: str, kind: Kind, text: str, as_json: bool) -> int:
    """What is on record of one day, week or month; of the last one up to now, where none is named."""
    from datetime import UTC, datetime

    from maintenance_defs.core.periods import Period
    from maintenance_defs.declarations import schedules_of
    from maintenance_defs.reporting.pages import page_facts
    from maintenance_defs.reporting.pages_text import page_lines

    now = datetime.now(UTC)
    try:
        period = Period.parse(kind, text) if text or kind == "month" else Period.up_to(kind, now)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint=f"--{kind}") from None
    loaded = load_system(name)
    with working_home(serve=False) as home:
        schedules = schedules_of(loaded.root, name)
        facts = page_facts(loaded.system, home, period, schedules=schedules, now=now)
    print_json(facts) if as_json else click.echo("\n".join(page_lines(facts)))
    return CLEAN


def _ledger(name: str, prefix: str | None, key: str | None, as_json: bool) -> int:
    """What the ledger says of one plan, or of one key."""
    from maintenance_defs.core.errors import Refused
    from maintenance_defs.reporting import retention_facts, retention_text

    system = load_system(name).system
    with working_home(serve=False) as home:
        if key is not None:
            facts = retention_facts.history_facts(home, system.name, key)
            lines = retention_text.history_lines(facts)
        else:
            found = find_plan(home, prefix or "")
            if found.system != system.name:
                raise Refused("wrong_system", f"plan {prefix} is of {found.system}, not of {name}.")
            facts = retention_facts.ledger_facts(home, found)
            lines = retention_text.ledger_lines(facts)
    if as_json:
        print_json(facts)
    else:
        click.echo("\n".join(lines))
    return ERROR if facts.get("chain") else CLEAN


@click.command(short_help="Reconcile a system; print one line.")
@system_argument
@as_of_option
@fail_option
@verb
def reconcile(name: str, as_of: datetime | None, fail_on_findings: bool, as_json: bool) -> int:
    """Reconcile SYSTEM and print one line: inventory of every store, snapshot of the database, diff.

    What SYSTEM publishes is then written into its table: which file of each row is there.

    For cron; `maintain report SYSTEM --last` tells the rest.
    """
    from maintenance_defs.reconcile.run import reconcile as run
    from maintenance_defs.reporting.report import Report
    from maintenance_defs.retention.publishing import publish

    loaded = load_system(name)
    with working_home() as home:
        with progress(shown=not as_json) as step:
            diff = run(loaded.system, home, folder=loaded.folder, as_of=as_of, step=step)
        found = Report.load(loaded.system, home, diff)
        told = publish(loaded.system, home) if loaded.system.publishes else {}
    if as_json:
        print_json(found.summary())
    else:
        click.echo(found.headline())
        for one in told.values():
            click.echo(one.words(), err=one.message is not None)
    return exit_code(found, fail_on_findings=fail_on_findings)


def _is_unicode(word: str | None) -> bool:
    """Whether every byte of the argument could be read; Python keeps the others as lone surrogates."""
    return word is None or not any("\ud800" <= character <= "\udfff" for character in word)


def exit_code(found: Report, *, fail_on_findings: bool) -> int:
    """3 refused, 2 nothing could be compared, 1 only a part could or (where asked for) findings, 0 clean."""
    if found.facts["verdict"] == "refused":
        return REFUSED
    if found.facts["verdict"] == "incomplete":
        compared = [store for store in found.facts["stores"] if store["referenced"] and store["verdict"] == "complete"]
        return PARTIAL if compared else ERROR
    return FINDINGS if fail_on_findings and found.has_findings else CLEAN


@click.command(short_help="Say why an object or row is judged as it is.")
@system_argument
@click.argument("key", required=False)
@click.option("--row", nargs=2, metavar="TABLE ID", help="Explain a row instead of an object.")
@click.option("--store", help="The store of KEY, where the system has several.")
@verb
def explain(name: str, key: str | None, row: tuple[str, str] | None, store: str | None, as_json: bool) -> int:
    """Say why KEY is an orphan, or why it is kept; without KEY, say SYSTEM's declaration in words.

    The answer comes from the last reconciliation and names its evidence: what was searched, in
    which forms, what comes nearest, and the instants it rests on.

    \b
      maintain explain shop
      maintain explain shop images/1024/front.jpg
      maintain explain shop --row product_image 1024
    """
    from maintenance_defs.reporting import explain as explaining

    loaded = load_system(name)
    if key is not None and row is not None:
        raise click.UsageError("give KEY or --row, not both")
    if any(not _is_unicode(word) for word in (key, *(row or ()))):
        raise click.UsageError("KEY and --row must be UTF-8; no object or row that was read is named otherwise")
    with working_home(serve=False) as home:
        if row is not None:
            told = explaining.explain_row(loaded.system, home, *row)
        elif key is not None:
            told = explaining.explain_key(loaded.system, home, key, store=store)
        else:
            told = explaining.explain_system(loaded.system, home, loaded.file)
    click.echo(json.dumps(told.facts, ensure_ascii=False, indent=2) if as_json else told.text(), nl=as_json)
    return CLEAN
