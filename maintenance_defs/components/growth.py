"""How a system grows, as an asset whose numbers Dagster plots, with a check on its stores."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from maintenance_defs.components import metadata
from maintenance_defs.components.metadata import plain, table
from maintenance_defs.components.steps import TAG, Reconcile, Steps, failed, job_name, told
from maintenance_defs.components.words import paragraphs
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import format_size
from maintenance_defs.growth.measure import measure
from maintenance_defs.reporting.growth_facts import growth_facts
from maintenance_defs.reporting.growth_text import amount, day_words, exact, measured, rate, rows_words, signed, sizes

NAME, CHECK = "growth", "storage_growth"


def growth_asset(system: System) -> dg.AssetsDefinition:
    """`growth` with the check `storage_growth`: reads the database and recorded listings, never a store."""
    declared = system.growth
    words = paragraphs(
        f"How fast the stores and tables of {system.name} grow. The same as `maintain growth {system.name}`.",
        [
            "- Stores: from recorded listings, by scope; a listing that is not complete tells nothing.",
            "- Tables: rows and bytes with indexes, against an earlier measurement; rows that are new by their time.",
            f"- {len(declared.projections)} projections, beside what was measured." if declared.projections else "",
        ],
    )
    spec = dg.AssetSpec(
        [system.name, NAME],
        # Listings that are newer make it better; it does not wait for them.
        deps=[[system.name, "inventory"]],
        description=words,
        group_name=system.name,
        owners=list(system.owners),
        tags={TAG: system.name},
    )
    check = dg.AssetCheckSpec(
        CHECK,
        asset=spec.key,
        description=f"No store grew by {declared.warn_percent:g} % (warns) or {declared.fail_percent:g} % (fails) in "
        f"24 h; less than {format_size(declared.floor)} is ignored. Says nothing about a store that was not listed.",
    )

    @dg.multi_asset(
        name=f"{system.name}__{NAME}",
        specs=[spec],
        check_specs=[check],
        pool=f"db_{system.name}",
    )
    def growth(context: dg.AssetExecutionContext, config: Reconcile, home: dg.ResourceParam[Home]) -> Steps:
        with told():
            found = measure(system, home, run_id=context.run.run_id, as_of=config.instant())
            facts = growth_facts(system, home, found)
        if found.verdict == "complete":
            yield dg.MaterializeResult(asset_key=spec.key, metadata=of_growth(facts))
        yield storage_growth(facts)  # also without the database: it is about recorded listings
        if found.verdict != "complete":
            raise failed([found])

    return growth


def growth_job(system: System, asset: dg.AssetsDefinition) -> object:
    """The job that schedules start."""
    return dg.define_asset_job(
        job_name(system.name, NAME),
        selection=dg.AssetSelection.assets(asset.key),
        description=f"Measure how the stores and tables of {system.name} grow. Reads only.",
        tags={TAG: system.name},
    )


def storage_growth(facts: Mapping[str, Any]) -> dg.AssetCheckResult:
    """S1-53. A store whose newest listing is not complete is neither an alarm nor an all-clear (K14)."""
    judged = {store["store"]: store for store in facts["stores"]}
    levels = {name: store["level"] for name, store in judged.items()}
    words = [f"`{name}`: {day_words(judged[name])}." for name, level in levels.items() if level in ("fail", "warn")]
    unlisted = [name for name, store in judged.items() if store["verdict"] != "complete"]
    words += [f"`{name}` was not listed, so nothing is known of its growth." for name in unlisted]
    unjudged = [name for name in judged if levels[name] == "unknown" and name not in unlisted]
    if unjudged:
        words.append(f"Not judged, without a listing of about a day before: {', '.join(f'`{n}`' for n in unjudged)}.")
    percents = [store["day"]["percent"] for store in judged.values() if store["day"]]
    most = max((percent for percent in percents if percent is not None), default=None)
    return dg.AssetCheckResult(
        asset_key=[facts["system"], NAME],
        check_name=CHECK,
        passed=not unlisted and not {"fail", "warn"} & set(levels.values()),
        severity=dg.AssetCheckSeverity.ERROR if "fail" in levels.values() else dg.AssetCheckSeverity.WARN,
        metadata={
            **({"percent": most} if most is not None else {}),
            **({"why": dg.MetadataValue.md(metadata.markdown([f"- {word}" for word in words]))} if words else {}),
        },
    )


def of_growth(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of the asset shows; a number that is not known is left out, never 0."""
    known = [store for store in facts["stores"] if store["verdict"] == "complete"]
    unknown = [store for store in facts["stores"] if store not in known]
    words = [f"**{format_size(sum(store['size_bytes'] for store in known))}** in {len(known)} stores."]
    words += [f"- `{store['store']}` is not known: {plain(store['message'] or store['reason'])}" for store in unknown]
    words += [f"- `{store['store']}`: {day_words(store)}." for store in known if store["day"]]
    words += [f"- {word}" for word in _projected(facts)]
    bars = [(store["store"], store["size_bytes"], metadata.GREEN) for store in known if store["size_bytes"]]
    stores = [
        (
            f"{store['store']}: {scope['prefix'] or '(all)'}",
            format_size(scope["size_bytes"]),
            rate(scope["change"], "bytes_per_day", signed) or "not known",
            "" if scope["new"] is None else format_size(scope["new"]["size_bytes"] / scope["new"]["days"]),
        )
        for store in known
        for scope in store["scopes"]
    ]
    tables = [
        (
            entry["table"],
            rows_words(entry) if entry["found"] else "not there",
            "not known" if entry["size_bytes"] is None else format_size(entry["size_bytes"]),
            rate(entry["change"], "bytes_per_day", signed) or "not known",
        )
        for entry in facts["tables"]
    ]
    return {
        **metadata.told(words, bars, format_size),
        **dict(_numbers(facts, known)),
        "as_of": metadata.day(facts["as_of"]),
        **({"stores": table(("scope", "size", "growth/day", "written/day"), stores)} if stores else {}),
        **({"tables": table(("table", "rows", "size", "growth/day"), tables)} if tables else {}),
        **({"projections": _projections(facts)} if facts["projections"] else {}),
        "all_of_it": f"maintain growth {facts['system']} --last",
    }


def _numbers(facts: Mapping[str, Any], known: list[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    """Rates and sizes as numbers: Dagster plots them over time."""
    for store in known:
        yield f"{store['store']}_bytes", store["size_bytes"]
        if store["change"] and "bytes_per_day" in store["change"]:
            yield f"{store['store']}_bytes_per_day", store["change"]["bytes_per_day"]
        if store["days_to_limit"] is not None:
            yield f"{store['store']}_days_to_limit", store["days_to_limit"]
    if facts["database"].get("size_bytes") is not None:
        yield "database_bytes", facts["database"]["size_bytes"]
        if facts["database"]["change"]:
            yield "database_bytes_per_day", facts["database"]["change"]["bytes_per_day"]


def _projected(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["projections"]:
        yield f"Projected {sizes(facts['projected_per_month'])} a month; with what was measured " + (
            f"{sizes(facts['expected_per_month'])}."
        )


def _projections(facts: Mapping[str, Any]) -> dg.TableMetadataValue:
    rows = [
        (
            one["name"],
            amount(one["projected"], exact),
            "not known" if one["measured"] is None else measured(one),
            one["risk"],
        )
        for one in facts["projections"]
    ]
    return table(("projection", "projected", "measured", "risk"), rows)
