"""When a diff must not be acted on: each guard is a small function over numbers (I10).

A guard never hides the report. `refuse` means that no plan may be built; `warn` that automatic
acts stay blocked or a person should look. Most concern every claim; a refusal that concerns only
missing rows leaves orphan claims standing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from maintenance_defs.core.declaration import Guards
from maintenance_defs.core.quantities import format_duration, format_instant

Status = Literal["pass", "warn", "refuse"]

NEARLY_ALL = 0.9  # share from which "all objects orphaned and all rows broken" is one mistake, not many


@dataclass(frozen=True)
class Guard:
    """One guard as it was evaluated. `measured` and `limit` are in the unit that `message` names."""

    name: str
    status: Status
    store: str | None  # None: the whole system
    measured: float | str | None
    limit: float | str | None
    message: str
    concerns: Literal["all", "missing"] = "all"


def empty_reference_set(store: str, references: int, in_scope: int) -> Guard:
    """No row names anything, yet there are objects: a wrong table or a migration not run (A01)."""
    if references == 0 and in_scope > 0:
        status: Status = "refuse"
        message = (
            f"no row names any object of store '{store}', which holds {in_scope:,} in scope. All of them would be "
            f"orphans. Nothing was deleted. Check that the declared tables are the right ones and have rows."
        )
    else:
        status, message = "pass", f"{references:,} references for {in_scope:,} objects in scope of store '{store}'."
    return Guard("empty_reference_set", status, store, references, 1, message)


def reference_shrink(store: str, references: int, before: int | None, limits: Guards) -> Guard:
    """Far fewer references than in the last good diff: a restored backup, a truncated table (A02)."""
    percent, known = _shrink(references, before)
    status: Status = (
        "refuse" if _shrank(percent, references, before, limits.max_reference_shrink_percent, limits) else "pass"
    )
    if status == "refuse":
        message = (
            f"store '{store}' is named by {references:,} references, {known} in the last good diff "
            f"(-{percent:.1f} %; limit {limits.max_reference_shrink_percent:g} %). Nothing was deleted. Was a table "
            f"truncated or an old backup restored? If it is meant, raise guards.max_reference_shrink_percent."
        )
    else:
        message = f"{references:,} references to store '{store}', {known} in the last good diff."
    return Guard("reference_shrink", status, store, round(percent, 2), limits.max_reference_shrink_percent, message)


def inventory_shrink(store: str, objects: int, before: int | None, limits: Guards) -> Guard:
    """Fewer objects than before: the listing may be short, so nothing is called missing (A05)."""
    percent, known = _shrink(objects, before)
    status: Status = (
        "refuse" if _shrank(percent, objects, before, limits.max_inventory_shrink_percent, limits) else "pass"
    )
    if status == "refuse":
        message = (
            f"store '{store}' lists {objects:,} objects, {known} in the last good diff (-{percent:.1f} %; limit "
            f"{limits.max_inventory_shrink_percent:g} %). No row was called missing. Take the inventory again; if "
            f"objects were removed on purpose, raise guards.max_inventory_shrink_percent."
        )
    else:
        message = f"{objects:,} objects in store '{store}', {known} in the last good diff."
    limit = limits.max_inventory_shrink_percent
    return Guard("inventory_shrink", status, store, round(percent, 2), limit, message, concerns="missing")


def mass_missing(
    store: str, missing: int, claims: int, objects: int, look_ups: int, most: int, limits: Guards
) -> Guard:
    """So many rows without object that the store is the suspect, not the rows (J02, E12).

    missing: claims of rows of which no object was listed. look_ups: keys that would have to be
    asked for one by one; most: how many of them are reasonable.
    """
    percent = 100 * missing / claims if claims else 0.0
    too_many = percent > limits.max_missing_percent and claims >= limits.small_population
    status: Status = "refuse" if too_many or look_ups > most or (missing and not objects) else "pass"
    if status == "refuse":
        message = (
            f"{missing:,} of {claims:,} keys that rows claim in store '{store}' are not in its inventory of "
            f"{objects:,} objects ({percent:.1f} %; limit {limits.max_missing_percent:g} %, or {most:,} keys). "
            f"Nothing was deleted and no row was called missing. Is a volume unmounted, a token expired, or the "
            f"wrong bucket configured?"
        )
    else:
        message = f"{missing:,} of {claims:,} keys that rows claim in store '{store}' are not in its inventory."
    return Guard("mass_missing", status, store, round(percent, 2), limits.max_missing_percent, message)


def orphan_ratio(store: str, orphans: int, in_scope: int, claims: int, limits: Guards) -> Guard:
    """An implausible share of the scope is orphaned (G03). Of nothing there is no share: refused.

    A store that is empty and of which no row claims an object is merely not in use yet: nothing can come of it.
    """
    limit = limits.max_orphan_percent
    if in_scope == 0 and claims == 0:
        message = f"store '{store}' holds no object in scope and no row claims any: there was nothing to compare."
        return Guard("orphan_ratio", "warn", store, None, limit, message)
    if in_scope == 0:
        message = (
            f"store '{store}' has no object in scope, so no share of it can be judged. Nothing was deleted. "
            f"Check the store's URL and the prefixes of its scopes."
        )
        return Guard("orphan_ratio", "refuse", store, None, limit, message)
    percent = 100 * orphans / in_scope
    status: Status = "refuse" if percent > limit and in_scope >= limits.small_population else "pass"
    if status == "refuse":
        message = (
            f"{orphans:,} of {in_scope:,} objects in scope of store '{store}' would be orphans ({percent:.1f} %; its "
            f"limit is {limit:g} %). Nothing was deleted. Look at the report; if all of them are, raise "
            f"guards.max_orphan_percent."
        )
    else:
        message = (
            f"{orphans:,} of {in_scope:,} objects in scope of store '{store}' are orphan candidates ({percent:.1f} %)."
        )
    return Guard("orphan_ratio", status, store, round(percent, 2), limit, message)


def systematic_prefix(
    store: str, orphans: int, in_scope: int, missing: int, claims: int, differences: Iterable[tuple[str, str]]
) -> Guard:
    """Nearly everything orphaned and nearly everything missing: the two sides spell keys differently.

    differences: (what objects have in front, what rows have in front) of pairs that end alike.
    """
    everything = (
        in_scope > 0
        and orphans >= NEARLY_ALL * in_scope
        and claims > 0
        and missing >= NEARLY_ALL * claims
        and missing > 0
    )
    found = Counter(differences).most_common(1)
    if not everything or not found:
        message = f"objects and rows of store '{store}' spell keys alike."
        return Guard("systematic_prefix", "pass", store, None, None, message)
    (object_has, row_has), count = found[0]
    message = (
        f"nearly all objects of store '{store}' are orphans and nearly all rows lack theirs, but {count:,} pairs "
        f"differ only in front: objects have '{object_has}' where rows have '{row_has}'. Nothing was deleted. "
        f"Correct the reference's form or the store's URL."
    )
    return Guard("systematic_prefix", "refuse", store, f"'{object_has}' / '{row_has}'", None, message)


def differing_fronts(object_key: str, row_key: str) -> tuple[str, str]:
    """What stands in front of the path segments that two keys have in common at their end."""
    ours, theirs = object_key.split("/"), row_key.split("/")
    while ours and theirs and ours[-1] == theirs[-1]:
        ours.pop()
        theirs.pop()
    return "".join(f"{part}/" for part in ours), "".join(f"{part}/" for part in theirs)


def unresolvable_references(count: int) -> Guard:
    """Values that name something, nobody knows what: automatic acts stay blocked (C06, D11)."""
    if count:
        message = (
            f"{count:,} reference{'' if count == 1 else 's'} could not be resolved. What may be meant is protected "
            f"where it was recognised, and nothing acts automatically. Declare the missing host or form, or correct "
            f"the rows."
        )
        return Guard("unresolvable_references", "warn", None, count, 0, message)
    return Guard("unresolvable_references", "pass", None, 0, 0, "every reference could be resolved.")


def undeclared_references(columns: dict[str, int]) -> Guard:
    """Columns that nobody declared hold keys of this system (D12). columns: name -> rows."""
    if columns:
        named = ", ".join(f"{column} ({rows:,})" for column, rows in sorted(columns.items()))
        message = (
            f"columns that no reference declares hold keys: {named}. Their objects are protected. Declare a reference "
            f"for each, with protects_only: true if need be."
        )
        return Guard("undeclared_references", "warn", None, len(columns), 0, message)
    return Guard("undeclared_references", "pass", None, 0, 0, "no undeclared column was seen to hold keys.")


def open_transactions_unknown(known: bool) -> Guard:
    """Without seeing other sessions, an upload whose row is not committed yet cannot be told (I5)."""
    if known:
        return Guard("open_transactions_unknown", "pass", None, None, None, "open transactions were seen.")
    message = (
        "this database role may not see the transactions of others, so a row that is being written now would be "
        "overlooked. Nothing was deleted. Grant it pg_read_all_stats."
    )
    return Guard("open_transactions_unknown", "refuse", None, None, None, message)


def replica_lag_unknown(is_replica: bool, replayed_at: datetime | None) -> Guard:
    """A replica that does not say how far it has come may lack any number of rows (A13)."""
    if is_replica and replayed_at is None:
        message = (
            "the database is a replica and does not say how far it has replayed, so recent rows may be absent. "
            "Nothing was deleted. Read from the primary, or from a replica that has replayed something."
        )
        return Guard("replica_lag_unknown", "refuse", None, None, None, message)
    message = f"the replica has replayed up to {format_instant(replayed_at)}." if replayed_at else "not a replica."
    return Guard("replica_lag_unknown", "pass", None, None, None, message)


def pair_changed(store: str, fingerprint: str, registered: str | None) -> Guard:
    """This database has not been seen with this store: staging rows against a production bucket (E06)."""
    if registered is not None:
        message = (
            f"store '{store}' was registered with another database or location (fingerprint {registered}, now "
            f"{fingerprint}). Nothing was deleted. If the pair is right, accept it by name with a reason."
        )
        return Guard("pair_changed", "refuse", store, fingerprint, registered, message)
    message = f"database and store '{store}' are the registered pair."
    return Guard("pair_changed", "pass", store, fingerprint, fingerprint, message)


def input_age(store: str, oldest_at: datetime, now: datetime, limits: Guards) -> Guard:
    """Inputs that are too old to act on (A16)."""
    age, limit = now - oldest_at, limits.max_input_age
    if age > limit:
        return stale_inputs(
            store,
            f"the oldest input of store '{store}' was begun at {format_instant(oldest_at)}, "
            f"{format_duration(_whole(age))} ago (limit {format_duration(limit)}).",
            _whole(age).total_seconds(),
            limit.total_seconds(),
        )
    message = f"the inputs of store '{store}' are younger than {format_duration(limit)}."
    return Guard("stale_inputs", "pass", store, _whole(age).total_seconds(), limit.total_seconds(), message)


def stale_inputs(store: str | None, why: str, measured: float | str | None = None, limit: float | None = None) -> Guard:
    """Inputs that do not belong together, or in the wrong order (I4)."""
    message = f"{why} Nothing was deleted. Take the inventory and then the references again."
    return Guard("stale_inputs", "refuse", store, measured, limit, message)


def _whole(age: timedelta) -> timedelta:
    return timedelta(seconds=int(age.total_seconds()))


def _shrink(now: int, before: int | None) -> tuple[float, str]:
    """How many percent fewer, and the former number in words."""
    if before is None:
        return 0.0, "none to compare with"
    return (100 * (before - now) / before if before else 0.0), f"{before:,}"


def _shrank(percent: float, now: int, before: int | None, limit: float, limits: Guards) -> bool:
    """Small numbers change by large percentages; from some to none is never small."""
    return before is not None and percent > limit and (before >= limits.small_population or now == 0)
