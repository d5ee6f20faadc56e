"""The words of `maintain explain`: declarations and decisions as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from maintenance_defs.core.archive import ColumnArchive
from maintenance_defs.core.declaration import ObjectForm, Reference, RowCheck, Scope, Store, System
from maintenance_defs.core.quantities import format_duration, format_size
from maintenance_defs.reporting.text import MEANING, count, shown

_FORM = {
    "column": "{value} is the key, byte for byte",
    "template": "the key is {value}, filled from the row",
    "url": "{value} is a URL of the store",
    "path": "{value} is a key, or bucket/key",
    "prefix": "{value} is a folder: everything below it is named",
    "token": "{value} is a part of the key: a segment or a file name",
    "text": "every link in the text of {value} counts",
}
_VERDICT = MEANING | {
    "matched": "kept: a row names it",
    "not_listed": "the last listing does not hold it",
    "undecided": "the last reconciliation did not compare its store, so nothing is known of it",
    "not_compared": "no reference names this store: its objects are listed, not compared",
}


def system_in_words(system: System, facts: dict[str, Any]) -> str:
    return "\n".join(_system(system, facts)) + "\n"


def _system(system: System, facts: dict[str, Any]) -> Iterator[str]:
    def named(variable: str) -> str:
        return f"{variable} ({'set' if facts['set'][variable] else 'NOT SET'})"

    yield f"{system.name}: {system.description or 'no description.'}"
    yield f"Declared in {facts['file']}; owners: {', '.join(system.owners) or 'none named'}."
    yield f"Its rows are in the database that {named(system.database.url_env)} names."
    for name, store in system.stores.items():
        yield ""
        yield f"Store {name}, which {named(store.url_env)} names:"
        yield from _store(store)
        if name not in system.referenced_stores:
            yield "  No reference names it: it is listed, not compared."
    yield ""
    yield "An object is named by a row when"
    for reference in system.references:
        yield f"  - {_reference(reference)}"
    if system.drift_scan:
        yield "  Keys found in columns that nobody declared protect their objects too, and are reported."
    if system.checks:
        yield ""
        yield "Rows that should not be:"
        for check_name, check in system.checks.items():
            yield f"  - {check_name} ({check.severity}): {check.describe}{_required(check)}"
    if system.queries:
        yield ""
        yield "Tables of the report:"
        for query_name, query in system.queries.items():
            yield f"  - {query_name}: {query.describe}"
    yield from _leaves(system)
    guards = system.guards
    yield ""
    yield (
        f"Nothing may be acted on when more than {guards.max_orphan_percent:g} % of a store are orphans, more than "
        f"{guards.max_missing_percent:g} % of the rows are missing, the references shrink by more than "
        f"{guards.max_reference_shrink_percent:g} %, or the listing by more than "
        f"{guards.max_inventory_shrink_percent:g} %."
    )
    yield ""
    yield f"Everything of ours is in {facts['home']}: control.db (runs and findings), artefacts/ (the Parquet files"
    yield "of each run), dagster/ (logs, shown by `maintain dev`). Schedules and sensors stand in sensors/."


def _leaves(system: System) -> Iterator[str]:
    """What policies and archives take away, in a line each; a plan says it of every item."""
    if system.retention:
        yield ""
        yield "What may go, once a plan of it was agreed to:"
        for name, policy in system.retention.items():
            stays = "; ".join(str(rule) for rule in policy.keep)
            yield f"  - {name} ({policy.mode}): {policy.describe}{f' - stays: {stays}' if stays else ''}."
    archives = system.archives | system.archived_columns
    if archives:
        yield ""
        yield "What goes to files, proven first, once a plan of it was agreed to:"
        for name, archive in archives.items():
            what = archive.table
            if isinstance(archive, ColumnArchive):
                what += f", the values of {archive.column}"
            keep = "forever" if archive.keep is None else format_duration(archive.keep)
            own = ", or as said for the organisation" if archive.keep_by or archive.keep_for else ""
            phi = "; every read is on record" if archive.class_ == "phi" else ""
            yield (
                f"  - {name} ({archive.mode}): {what}, to store {archive.store} after {format_duration(archive.hot)}; "
                f"kept {keep}{own}{phi}."
            )


def _store(store: Store) -> Iterator[str]:
    for scope in store.scopes:
        yield f"  - {_scope(scope)}"
    yield (
        f"  An object may be {format_duration(store.in_flight)} old before its row comes; ages count from "
        + ("the last change." if store.age_by == "modified" else "when we first saw it.")
    )
    if store.hosts:
        yield f"  URLs that begin with {' or '.join(store.hosts)} mean this store."
    if store.limit is not None:
        yield f"  It should hold no more than {format_size(store.limit)}."
    if store.may_be_absent:
        yield "  It need not exist."


def _scope(scope: Scope) -> str:
    where = f"everything below {scope.prefix}" if scope.prefix else "everything"
    kept = (
        "only this system writes here, so objects can be orphans"
        if scope.exclusive
        else ("shared with others, so nothing here is ever called an orphan")
    )
    patterns = f"; only keys like {' or '.join(scope.patterns)} are judged" if scope.patterns else ""
    return f"{where} ({scope.class_}): {kept}{patterns}."


def _form(form: ObjectForm) -> str:
    value = {
        "template": form.template,
    }.get(form.kind) or "its value"
    if form.json_ is not None:
        where = f"for each value at {form.at} in the JSON of {form.json_}, "
    elif form.array is not None:
        split = f", split at {form.separator!r}," if form.separator else ""
        where = f"for each element of {form.array}{split} "
    else:
        where = ""
        value = getattr(form, form.kind)
    return where + _FORM[form.kind].format(value=value)


def _reference(reference: Reference) -> str:
    words = f"in {reference.table}, {_form(reference.object)} (store {' or '.join(reference.store)})"
    if reference.protects_only:
        words += "; it only protects, its absence is no finding"
    if reference.releases_reference:
        words += f"; not for rows where {reference.releases_reference}"
    if reference.in_progress:
        words += f"; the object may not exist yet where {reference.in_progress}"
    return words + "."


def _required(check: RowCheck) -> str:
    return f" Needs {check.requires} in {check.store}." if check.requires else ""


def key_in_words(facts: dict[str, Any]) -> str:
    return "\n".join(_key(facts)) + "\n"


def _key(facts: dict[str, Any]) -> Iterator[str]:
    yield f"{shown(facts['key'])} in {facts['store']}: {facts['item']} - {_VERDICT[facts['item']]}."
    if facts["reason"]:
        yield f"Why: {facts['reason']}" + ("" if facts["reason"].endswith(".") else ".")
    if facts["near_miss"]:
        yield f"Comes near: {shown(facts['near_miss'])}"
    found = facts["object"]
    if found:
        size = "unknown size" if found["size_bytes"] is None else format_size(found["size_bytes"])
        yield f"Listed with {size}, last modified {found['modified_at'] or 'at an unknown time'}."
    elif facts["store_listed"]:
        yield "It was not listed."
    else:
        yield "Whether it exists is not known: there is no listing of its store."
    yield ""
    yield "Searched, for exactly this key:" if facts["searched"] else "Nothing declared or recorded names objects."
    for source in facts["searched"]:
        named = f"named by {count(source['rows'], 'row')}: {_rows(source['row_ids'])}" if source["rows"] else "no row"
        only = " (protects only)" if source["protects_only"] else ""
        yield f"  - {source['reference']}{only}: {count(source['keys'], 'key')}, {named}"
    yield ""
    yield "Tried besides; whatever is found here protects:"
    for form in facts["forms"]:
        hits = "; ".join(f"{shown(hit['value'])} (row {shown(hit['row_id'])}: {hit['how']})" for hit in form["found"])
        yield f"  - {form['form']}: {hits or 'nothing'}"
    if facts["nearest"]:
        yield ""
        yield "References most like it:"
        for near in facts["nearest"]:
            yield f"  - {shown(near['key'])} (likeness {near['likeness']:.2f}, row {shown(near['row_id'])})"
    yield ""
    for seen in facts["seen"]:
        yield (
            f"Seen as {seen['item']} since {seen['first_seen']}, in {count(seen['observations'], 'complete run')}; "
            + (f"resolved {seen['resolved']}." if seen["resolved"] else f"last {seen['last_seen']}.")
        )
    yield from _moments(facts["evidence"])


def _rows(row_ids: list[str]) -> str:
    return ", ".join(shown(row_id) for row_id in row_ids)


def _moments(evidence: dict[str, Any]) -> Iterator[str]:
    yield (
        f"As of {evidence['as_of']}. The listing ran from {_seconds(evidence['listing_started_at'])} to "
        f"{_seconds(evidence['listing_ended_at'])}, the database was read at {_seconds(evidence['snapshot_taken_at'])}"
        + (
            f", oldest open transaction {evidence['oldest_transaction_at']}"
            if evidence["oldest_transaction_at"]
            else ""
        )
        + "."
    )
    if evidence["cutoff"]:
        yield f"Only what was last modified before {evidence['cutoff']} can be an orphan."
    if evidence["verdict"] != "complete":
        yield f"This reconciliation is {evidence['verdict']} ({evidence['reason']}): nothing may be acted on."


def _seconds(instant: str | None) -> str:
    return "an unknown time" if instant is None else f"{instant[:19]}Z"


def _nth(facts: dict[str, Any], entry: dict[str, Any]) -> str:
    """' [3]' where the entry is the third value of a list of the row."""
    nth = entry["row_id"].removeprefix(facts["row_id"])
    return f" {nth}" if nth else ""


def row_in_words(facts: dict[str, Any]) -> str:
    return "\n".join(_row(facts)) + "\n"


def _row(facts: dict[str, Any]) -> Iterator[str]:
    yield f"Row {shown(facts['row_id'])} of {facts['table']}:"
    for key in facts["keys"]:
        there = (
            f"listed, {format_size(key['size_bytes'] or 0)}, {key['modified_at']}"
            if key["listed"]
            else "NOT LISTED"
            if key["listed"] is not None
            else "not known, there is no listing of its store"
        )
        yield f"  - {key['reference']}{_nth(facts, key)}: {shown(key['key'])} in {key['store']}: {there}"
    for entry in facts["loose"]:
        what = shown(entry["value"]) if entry["value"] else "no value"
        why = f" ({entry['reason']})" if entry["reason"] else ""
        yield f"  - {entry['reference']}{_nth(facts, entry)}: {entry['kind']} {what}{why}"
    if not facts["keys"] and not facts["loose"]:
        yield "  The last snapshot holds no such row, or the row names nothing."
    for item in facts["decided"]:
        yield f"Judged{_nth(facts, item)}: {item['item']} - {_VERDICT[item['item']]}. {item['reason'] or ''}".rstrip()
    for store, why in facts["undecided"].items():
        yield f"Store {store} was not compared, so nothing is known of what it holds: {why}"
    if facts["keys"] and not facts["decided"] and not facts["undecided"]:
        yield (
            "Judged: whole. At least one object that it names exists."
            if any(key["listed"] for key in facts["keys"])
            else "Judged: no finding; what it names only protects, or was there when asked again."
        )
    yield from _moments(facts["evidence"])
