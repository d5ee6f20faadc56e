"""The verbs that let archived rows go for good: expire, sweep, shred."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli.archiving import archive_argument, instant_or_now, names, work_on
from maintenance_defs.cli.shared import (
    CLEAN,
    PARTIAL,
    actor_option,
    as_of_option,
    confirm_digest,
    confirm_option,
    load_system,
    person,
    print_json,
    reason_option,
    system_argument,
    verb,
    why,
    working_home,
)

if TYPE_CHECKING:
    from maintenance_defs.control.archive import FileRow
    from maintenance_defs.control.home import Home
    from maintenance_defs.core.declaration import System


@click.command(short_help="Plan what has expired in the archive, and nothing else.")
@click.argument("system_name", metavar="SYSTEM")
@archive_argument
@as_of_option
@verb
def expire(system_name: str, name: str | None, as_of: datetime | None, as_json: bool) -> int:
    """Plan which archived rows are older than they are to be kept. Changes nothing.

    `maintain plan` proposes these together with the months that leave their table; this is a plan of its own, to be
    approved and applied like any other.
    """
    from maintenance_defs.archive.plans.planning import take_plan
    from maintenance_defs.cli.kinds import plan_facts, plan_lines

    loaded = load_system(system_name)
    made = []
    with working_home() as home:
        for one in names(loaded.system, name, home):
            row = take_plan(loaded.system, one, home, run_id=uuid.uuid4().hex, as_of=as_of, only="expiry")
            made.append(plan_facts(home, row, loaded))
    if as_json:
        print_json({"system": loaded.system.name, "plans": made, "refused": []})
    else:
        click.echo("\n\n".join("\n".join(plan_lines(facts)) for facts in made))
    return CLEAN


@click.command(short_help="Remove the objects of files that nobody reads any more.")
@click.argument("system_name", metavar="SYSTEM")
@archive_argument
@verb
def sweep(system_name: str, name: str | None, as_json: bool) -> int:
    """Remove from the store what no reader sees any more: files that were written again, put back, or expired.

    It takes no row out of the archive: those went with the plan that was approved. Exits with 1 if something could
    not be removed.
    """
    from maintenance_defs.archive.units.expiring import sweep as remove
    from maintenance_defs.core.errors import Paused
    from maintenance_defs.reporting.text import count, shown

    system = load_system(system_name).system
    told: list[dict[str, Any]] = []
    with working_home() as home:
        for one in names(system, name, home):
            if pause := home.control.retention.paused(system.name, one):
                raise Paused(f"{pause.words()}. Nothing was removed. {pause.then()}")
            swept = remove(work_on(system, one, home, instant_or_now(None), as_json))
            told.append(
                {
                    "archive": one, "gone": swept.gone,
                    "waiting": [{"key": key, "why": words} for key, words in swept.waiting],
                    "failed": [{"key": key, "why": words} for key, words in swept.failed],
                }
            )  # fmt: skip
    if as_json:
        print_json({"system": system.name, "archives": told})
    for facts in told if not as_json else ():
        if not any(facts[what] for what in ("gone", "waiting", "failed")):
            click.echo(f"{system.name}/{facts['archive']}: nothing is left over.")
            continue
        click.echo(f"{system.name}/{facts['archive']}: {count(len(facts['gone']), 'object')} removed for good.")
        for what, words in (("waiting", "Stays for now"), ("failed", "FAILED")):
            for item in facts[what]:
                click.echo(f"  {words}: {shown(item['key'])}: {shown(item['why'])}")
    return PARTIAL if any(facts["failed"] for facts in told) else CLEAN


@click.command(short_help="Destroy an organisation's key: its files can never be read again.")
@system_argument
@click.argument("archive_name", metavar="ARCHIVE")
@click.argument("organisation", metavar="ORGANISATION")
@confirm_option
@reason_option
@actor_option
@verb
def shred(
    name: str,
    archive_name: str,
    organisation: str,
    confirm: str | None,
    reason: str | None,
    actor: str | None,
    as_json: bool,
) -> int:
    """Destroy ORGANISATION's key to ARCHIVE, after what it opens was shown and its digest repeated.

    Its archived rows can never be read again, from any copy of the store. Rows that are still in the table
    stay there. Backups of the control database hold the key for as long as they are kept.
    """
    from maintenance_defs.archive.cache import forget
    from maintenance_defs.archive.declared import find_archive
    from maintenance_defs.archive.encryption import is_encrypted
    from maintenance_defs.archive.encryption import shred as destroy

    system = load_system(name).system
    archive = find_archive(system, archive_name)
    who, said = person(actor), why(reason)
    facts: dict[str, Any] = {}
    with working_home() as home:
        files = _files_of(system, archive_name, home, organisation)
        if is_encrypted(archive):  # of another one it is said below why it cannot be
            facts = _shredding(system, archive_name, home, organisation, files)
            if not as_json:
                click.echo("\n".join(_shred_lines(facts)))
            again = f"maintain archive shred {name} {archive_name} {organisation} --reason '...' --confirm DIGEST"
            confirm_digest(facts["digest"], confirm, again)
        keys = destroy(home, system.name, archive_name, archive, organisation, who, said)
        forget(home, [file.sha256 for file in files])
    if as_json:
        print_json(facts | {"keys": keys})
    else:
        click.echo(f"The key of {organisation} is destroyed. Nobody can read these files any more.")
    return CLEAN


def _files_of(system: System, name: str, home: Home, organisation: str) -> list[FileRow]:
    files = home.control.archive.files(system.name, name, states=("live", "stored", "superseded"))
    mine = {group.file_id for group in home.control.archive.groups([file.id for file in files])
            if group.organisation == organisation}  # fmt: skip
    return [file for file in files if file.id in mine]


def _shredding(system: System, name: str, home: Home, organisation: str, files: Sequence[FileRow]) -> dict[str, Any]:
    """What the key opens. Raises Refused where there is none."""
    from maintenance_defs.cli.answers import plain
    from maintenance_defs.core.errors import Refused

    key = home.control.archive.organisation_key(system.name, name, organisation)
    if key is None:
        raise Refused(
            "no_key",
            f"{organisation!r} has no key in {system.name}/{name}: none was made, or it was destroyed before. Nothing "
            f"was done.",
        )
    said = [system.name, name, organisation, key.id, *(file.id for file in files)]
    firsts = [file.first_at for file in files if file.first_at]
    lasts = [file.last_at for file in files if file.last_at]
    return {
        "digest": sha256("\0".join(said).encode()).hexdigest(),
        "system": system.name,
        "archive": name,
        "organisation": organisation,
        "files": len(files),
        "rows": sum(file.rows for file in files),
        "first_at": plain(min(firsts, default=None)),
        "last_at": plain(max(lasts, default=None)),
    }


def _shred_lines(facts: dict[str, Any]) -> list[str]:
    from maintenance_defs.reporting.text import count

    span = f", from {facts['first_at']} to {facts['last_at']}" if facts["first_at"] else ""
    return [
        f"{facts['system']}/{facts['archive']}: the key of {facts['organisation']} opens "
        f"{count(facts['files'], 'file')} with {count(facts['rows'], 'row')}{span}.",
        "Once it is destroyed nobody can read them again, from no copy and no backup of the store. There is no way "
        "back.",
        f"  digest {facts['digest'][:8]}",
    ]
