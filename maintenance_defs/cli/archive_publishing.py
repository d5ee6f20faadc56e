"""The verb that publishes an archive for other engines: publish."""

from __future__ import annotations

from typing import Any

import click

from maintenance_defs.cli.archiving import archive_argument, names
from maintenance_defs.cli.shared import CLEAN, PARTIAL, load_system, print_json, verb, working_home


@click.command(short_help="Make the archive's Iceberg table hold what the catalogue says.")
@click.argument("system_name", metavar="SYSTEM")
@archive_argument
@click.option("--rebuild", is_flag=True, help="Forget the table, and make it anew from the catalogue.")
@verb
def publish(system_name: str, name: str | None, rebuild: bool, as_json: bool) -> int:
    """Bring the Iceberg table of ARCHIVE up to date: months that left their table, and nothing that has expired.

    Every run does this by itself; by hand it mends what was cut off. No object of the archive is changed or removed,
    whatever is asked. Without ARCHIVE, of every one of SYSTEM that declares a table. Exits with 1 where files had to
    be left out.

    \b
      maintain archive publish shop
      maintain archive publish shop order_log --rebuild
    """
    from maintenance_defs.archive.iceberg import publish as bring
    from maintenance_defs.core.errors import Refused
    from maintenance_defs.reporting.archive_iceberg import iceberg_lines, standing_facts
    from maintenance_defs.reporting.text import count

    system = load_system(system_name).system
    told: list[dict[str, Any]] = []
    with working_home() as home:
        wanted = [one for one in names(system, name, home) if name or system.archives[one].iceberg is not None]
        if not wanted:
            raise Refused("no_iceberg", f"no archive of {system.name} declares an Iceberg table. Nothing was done.")
        for one in wanted:
            done = bring(system, one, home, rebuild=rebuild)
            told.append({"archive": one, "added": done.added, "removed": done.removed} | standing_facts(done))
    if as_json:
        print_json({"system": system.name, "archives": told})
    for facts in told if not as_json else ():
        changed = f"{count(facts['added'], 'file')} added, {facts['removed']} taken out"
        again = f"maintain archive publish {system.name} {facts['archive']}"
        click.echo(f"{system.name}/{facts['archive']}: {changed}.")
        click.echo("\n".join(f"  {line}" for line in iceberg_lines(facts, again)))
    return PARTIAL if any(facts["left_out"] for facts in told) else CLEAN
