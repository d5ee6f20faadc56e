"""What keeps an archive well: months made ahead, and the drill. Each in a job of its own (L7)."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from maintenance_defs.archive.ahead import make_ahead
from maintenance_defs.archive.watching.drilling import Drilled, archive_drill
from maintenance_defs.components import archive_words, metadata
from maintenance_defs.components.archive_assets import KINDS, parent_pool
from maintenance_defs.components.checks import ERROR
from maintenance_defs.components.consent import Results, log_lines, step_spec
from maintenance_defs.components.metadata import GREEN, plain, table
from maintenance_defs.components.retention_checks import shown
from maintenance_defs.components.steps import TAG, Reconcile, job_name, told
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused
from maintenance_defs.core.quantities import format_size
from maintenance_defs.databases.partitions import Ahead, Note
from maintenance_defs.reporting.text import count


def upkeep_assets(system: System, name: str) -> list[dg.AssetsDefinition]:
    """`<name>_drill`; `<name>_ahead` where months are made ahead."""
    return [*([_ahead(system, name)] if is_made_ahead(system, name) else []), _drill(system, name)]


def upkeep_jobs(system: System) -> list[Any]:
    """`<system>_archive_ahead` and `<system>_archive_drill`, over all archives that have them."""
    ahead = [name for name in system.archives if is_made_ahead(system, name)]
    jobs = []
    if ahead:
        words = f"Make the partitions of the months to come of {', '.join(ahead)}. Removes nothing."
        jobs.append(_job(system, "ahead", ahead, words))
    if system.archives:
        names = list(system.archives)
        words = f"Can what was archived of {', '.join(names)} be read and restored? Nothing that is in use is touched."
        jobs.append(_job(system, "drill", names, words))
    return jobs


def is_made_ahead(system: System, name: str) -> bool:
    """Whether partitions are wanted; where the table turns out to have none, nothing is made."""
    archive = system.archives[name]
    return archive.months_ahead > 0 and archive.remove != "rows"


def _job(system: System, step: str, names: list[str], description: str) -> Any:
    keys = [dg.AssetKey([system.name, f"{name}_{step}"]) for name in names]
    return dg.define_asset_job(
        job_name(system.name, f"archive_{step}"),
        selection=dg.AssetSelection.assets(*keys),
        description=description,
        tags={TAG: system.name},
    )


def _ahead(system: System, name: str) -> dg.AssetsDefinition:
    spec = step_spec(system, name, "ahead", archive_words.describe_ahead(system, name), [], {"postgres"})

    @dg.multi_asset(name=f"{system.name}__{name}_ahead", specs=[spec], pool=parent_pool(system, name))
    def ahead(context: dg.AssetExecutionContext, home: dg.ResourceParam[Home]) -> Results:
        with told():
            made = _made(system, name, home)
        for note in made.notes:
            context.log.warning(note.message)
        yield dg.MaterializeResult(metadata=_of_ahead(made))

    return ahead


def _made(system: System, name: str, home: Home) -> Ahead:
    """A plain table needs no partitions; that is no failure."""
    try:
        return make_ahead(system, name, home, datetime.now(UTC))
    except Refused as refused:
        if refused.reason != "not_partitioned":
            raise
        return Ahead((), 0, (Note(refused.reason, str(refused)),))


def _of_ahead(made: Ahead) -> dict[str, Any]:
    words = [f"**{count(len(made.created), 'partition')} made.**"]
    words += [f"{count(made.moved_rows, 'row')} moved into them from the DEFAULT partition."] if made.moved_rows else []
    words += [f"- {plain(note.message)}" for note in made.notes]
    parts = [(part.name, f"{part.lower:%Y-%m-%d}", f"{part.upper:%Y-%m-%d}") for part in made.created]
    return {
        "summary": dg.MetadataValue.md(metadata.markdown(words)),
        "created": len(made.created),
        "moved_rows": made.moved_rows,
        **({"partitions": table(("partition", "from", "to"), parts)} if parts else {}),
    }


def _drill(system: System, name: str) -> dg.AssetsDefinition:
    key = [system.name, f"{name}_drill"]
    spec = step_spec(system, name, "drill", archive_words.describe_drill(system, name), [f"{name}_archive"], KINDS)
    checks = {
        "files_intact": "The files looked at are byte for byte and value for value what was proven.",
        "restorable": "A month came back into a table of its own with the text that it had.",
    }

    @dg.multi_asset(
        name=f"{system.name}__{name}_drill",
        specs=[spec],
        check_specs=[dg.AssetCheckSpec(one, asset=key, description=words) for one, words in checks.items()],
        pool=parent_pool(system, name),
        op_tags={"maintenance/drill": system.name},
    )
    def drill(context: dg.AssetExecutionContext, config: Reconcile, home: dg.ResourceParam[Home]) -> Results:
        with told():
            as_of = config.instant() or datetime.now(UTC)
            run_id = context.run.run_id
            found = archive_drill(system, name, home, run_id=run_id, as_of=as_of, log=log_lines(context))
        yield dg.MaterializeResult(metadata=_of_drill(found))
        yield shown(key, "files_intact", not found.damaged, ERROR, found.damaged[:5], {"files": found.files})
        rows = found.restored.rows if found.restored else 0
        yield shown(key, "restorable", not found.not_restored, ERROR, found.not_restored, {"rows": rows})

    return drill


def _of_drill(found: Drilled) -> dict[str, Any]:
    words = [f"**{count(found.files, 'file')}** of {count(len(found.months), 'month')} fetched back and read."]
    if not found.months:
        words = ["**Nothing is archived yet**, so nothing was looked at."]
    if found.restored is not None:
        same = {True: "the same text as before", None: "what was archived of it"}.get(found.restored.same, "OTHER TEXT")
        words.append(f"{found.restored_month}: {count(found.restored.rows, 'row')} restored, {same}.")
    words += [f"- **{plain(problem)}**" for problem in (*found.damaged, *found.not_restored)]
    bars = [(step, round(1000 * seconds), GREEN) for step, seconds in found.seconds.items()]
    return {
        **metadata.told(words, bars, lambda ms: f"{ms / 1000:.1f} s"),
        "files": found.files,
        "size_bytes": found.size_bytes,
        "size": format_size(found.size_bytes),
        "damaged": len(found.damaged),
        "restored_rows": found.restored.rows if found.restored else 0,
        "restore_seconds": found.seconds.get("restore", 0.0),
        "months": ", ".join(found.months) or "none",
    }
