"""Can everything be reached, does it look as declared, and may we do no more than we need? Reads only.

`examine` yields findings one by one: each says what was seen and, unless it is well, what to do.
With `write`, a canary object is written below the platform's own prefix and removed again.
Source: S0-9, S0-36, S1-25, S1-33, S1-34, S2-31; hazards A07, A13, A14, F08.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import Store, System
from maintenance_defs.core.errors import MaintenanceError, Refused, StoreDenied
from maintenance_defs.core.presets import preset_at
from maintenance_defs.core.quantities import format_duration, format_instant
from maintenance_defs.databases.urls import is_d1
from maintenance_defs.reporting.doctor_archives import examine_archives
from maintenance_defs.reporting.doctor_database import examine_database
from maintenance_defs.reporting.finding import Finding, Status, Where
from maintenance_defs.retention.migrate import out_of_order, status
from maintenance_defs.stores import open_store
from maintenance_defs.stores.base import Capabilities, ObjectStore

TOLERATED_SKEW = timedelta(seconds=30)  # network and rounding of Date headers; ages are compared with an hour
CTIME_SAMPLE = 1000
MIN_SECRET_LENGTH = 16


def examine(
    system: System,
    home: Home,
    *,
    where: Where,
    folder: Path,
    write: bool = False,
    now: datetime | None = None,
) -> Iterator[Finding]:
    """Findings about one system.

    where: path of a declared thing (('references', 0)) -> 'file:line'.
    folder: the system's, for its queries.
    now: this machine's time, passed in by tests.
    """
    yield from _environment(system, home)
    yield from _preset(system, home, now or datetime.now(UTC))
    for name, declared in system.stores.items():
        if declared.url_env not in home.environment:
            continue
        try:
            store = open_store(name, declared, home.value)
            yield from _store(system, name, declared, store, write=write, now=now or datetime.now(UTC))
            if declared.age_by == "modified" and not home.is_demo(declared.url_env):
                yield from _copied_times(system, name, store)
        except MaintenanceError as error:
            yield _failed(system, f"store {name}", error, optional=declared.may_be_absent)
    if system.database.url_env in home.environment:
        try:
            yield from examine_database(system, home, where=where, folder=folder)
            yield from _migrations(system, home, folder)
        except MaintenanceError as error:
            yield _failed(system, "database", error)
    yield from examine_archives(system, home, now or datetime.now(UTC))


def _failed(system: System, subject: str, error: MaintenanceError, *, optional: bool = False) -> Finding:
    what, _, todo = str(error).partition(". ")
    return Finding(system.name, subject, "warn" if optional else "fail", what.rstrip(".") + ".", todo)


def _preset(system: System, home: Home, now: datetime) -> Iterator[Finding]:
    """A preset that expired or will soon: which timings hold."""
    try:
        found = preset_at(system, home.environment, now)
    except ValueError as error:
        yield Finding(system.name, "preset", "fail", f"{error}.")
        return
    if found is not None and found.expires_at is not None:
        what, _, todo = (found.message or f"{found.chosen} holds until {format_instant(found.expires_at)}.").partition(
            ". "
        )
        yield Finding(system.name, "preset", "warn" if found.message else "ok", f"{what.rstrip('.')}.", todo)


def _migrations(system: System, home: Home, folder: Path) -> Iterator[Finding]:
    """How far the system's migrations came, as its database shows it (S0-36)."""
    if not (folder / "migrations").is_dir():
        return
    found = status(system, home, folder)
    wrong = [one.detail or one.name for one in found if one.state == "refused"] + out_of_order(found)
    for said in wrong:
        yield Finding(system.name, "migrations", "fail", said, f"See `maintain migrate {system.name}`.")
    there = [one.name for one in found if one.state == "already_applied"]
    if found and not wrong:
        pending = [one.name for one in found if one.state == "pending"]
        yield Finding(
            system.name, "migrations", "ok",
            f"{len(there)} of {len(found)} applied ({', '.join(there) or 'none'})"
            + (f"; not applied: {', '.join(pending)}." if pending else "."),
        )  # fmt: skip


def _environment(system: System, home: Home) -> Iterator[Finding]:
    """Which variables have a value; the value itself is never shown."""
    needed: list[tuple[str, str, bool]] = [(system.database.url_env, "the database", True)]
    is_remote = is_d1(home.environment.get(system.database.url_env, ""))
    for token, meaning in (
        (system.database.token_env, "the token of the database"),
        (system.database.write_token_env, "the token of the database, for changes"),
    ):
        if token is not None:
            needed.append((token, meaning, is_remote))
    for name, store in system.stores.items():
        needed.append((store.url_env, f"store {name}", not store.may_be_absent))
        remote = "://" in home.environment.get(store.url_env, "")
        if store.bucket_env is not None:
            needed.append((store.bucket_env, f"the bucket of store {name}", store.bucket is None and remote))
        if store.credentials is not None:
            needed.append((store.credentials.access_key_env, f"the access key of store {name}", remote))
            needed.append((store.credentials.secret_key_env, f"the secret key of store {name}", remote))
    for name, archive in system.archives.items():
        if archive.iceberg is not None:
            what = f"the catalogue of the Iceberg table of {name}"
            needed.append((archive.iceberg.catalog_env, what, archive.enabled))
    for variable, meaning, required in needed:
        if home.is_demo(variable):
            yield Finding(system.name, variable, "ok", f"names {meaning} of the demonstration.")
        elif variable in home.environment:
            yield Finding(system.name, variable, "ok", f"is set; it names {meaning}.")
        elif required:
            todo = f"Set {variable}, or run `maintain demo` to work on the demonstration data."
            yield Finding(system.name, variable, "fail", f"is not set; it names {meaning}.", todo)


def _store(
    system: System, name: str, declared: Store, store: ObjectStore, *, write: bool, now: datetime
) -> Iterator[Finding]:
    subject = f"store {name}"

    def finding(status: Status, what: str, todo: str = "") -> Finding:
        return Finding(system.name, subject, status, what, todo)

    seen = store.probe(write=write)
    if seen.lists is False:
        yield finding(
            "fail",
            f"{store.display_url} is reached, but may not be listed: a write-only token looks like this.",
            "Grant these credentials the right to list and read.",
        )
        return
    yield finding("ok", f"{store.display_url} ({store.kind}) is reached and listed.")
    yield from _capabilities(finding, seen, write=write)
    try:
        store.head(".maintenance/no-such-object")
        yield finding("ok", "an absent object is told from a forbidden one.")
    except StoreDenied:
        yield finding(
            "warn",
            "the store answers 403 for an absent object, so rows without file stay unknown.",
            "Grant the right to list the bucket to the credentials that ask for objects.",
        )
    skew = timedelta(seconds=round(abs(store.clock() - now).total_seconds()))
    if skew > TOLERATED_SKEW:
        yield finding(
            "warn",
            f"its clock and this machine's differ by {format_duration(skew)}.",
            "Set the clocks; the earliest one counts until then.",
        )


def _capabilities(finding: Any, seen: Capabilities, *, write: bool) -> Iterator[Finding]:
    if seen.ordered_listing is False:
        yield finding("warn", "it does not list in key order; every inventory is sorted once more.")
    if seen.writes and not write:
        yield finding("ok", "these credentials could write; reports need only reading.")
    if write:
        yield finding(
            "ok" if seen.writes else "warn",
            "a canary was written and removed." if seen.writes else "these credentials cannot write.",
            "" if seen.writes else "That is best for reports; deletion, later, needs others.",
        )
        if seen.writes and seen.conditional_delete is False:
            yield finding("warn", "it ignores If-Match on deletion (F08).", "Deletion will ask again before each act.")
    for note in seen.notes:
        yield finding("ok", note)


def _copied_times(system: System, name: str, store: ObjectStore) -> Iterator[Finding]:
    """Files that are younger here than their mtime says were copied with their times kept: age means nothing."""
    root = getattr(store, "root", None)
    if root is None:
        return
    seen = copied = 0
    for batch in store.list():
        for key in batch.column("key").to_pylist()[: CTIME_SAMPLE - seen]:
            path = Path(root) / key
            if path.is_file():
                facts = path.stat()
                seen += 1
                copied += facts.st_ctime - facts.st_mtime > 3600
        if seen >= CTIME_SAMPLE:
            break
    if seen and copied > seen / 2:
        yield Finding(
            system.name,
            f"store {name}",
            "warn",
            f"{copied} of the first {seen} files were changed or copied here long after their own date.",
            "If files are copied with their times kept, declare `age_by: first_seen` for this store.",
        )


def examine_deployment(home: Home, *, production: bool) -> Iterator[Finding]:
    """What is the same for all systems; with `production`, what the demonstration may do without."""

    def finding(subject: str, status: Status, what: str, todo: str = "") -> Finding:
        return Finding("", subject, status, what, todo)

    for variable in ("MAINTENANCE_CONTROL_URL", "DAGSTER_PG_URL"):
        url = home.environment.get(variable, "")
        if url.startswith(("postgresql://", "postgres://")):
            yield finding(
                variable, "fail", "has the bare scheme, which SQLAlchemy 2.1 reads as psycopg 3.",
                "Write postgresql+psycopg2://…",
            )  # fmt: skip
        elif production and not url.startswith("postgresql"):
            yield finding(
                variable, "fail", "names no PostgreSQL, so one machine's disk holds the state.",
                "Set it to postgresql+psycopg2://…",
            )  # fmt: skip
        elif url:
            yield finding(variable, "ok", "is set.")
    try:
        home.control.history("", "inventory")
        yield finding("control database", "ok", "opens, and its tables are of this version.")
    except MaintenanceError as error:
        yield finding("control database", "fail", str(error))
    if not production:
        return
    if "://" in home.environment.get("MAINTENANCE_ARTEFACTS_URL", ""):
        yield finding("MAINTENANCE_ARTEFACTS_URL", "ok", "names a store.")
    else:
        yield finding(
            "MAINTENANCE_ARTEFACTS_URL", "warn", "names no store: artefacts lie on one machine's disk.",
            "Set it to s3://…, az://… or gs://…",
        )  # fmt: skip
    secret = home.environment.get("CRON_SECRET", "").strip()
    if len(secret) < MIN_SECRET_LENGTH:
        yield finding(
            "CRON_SECRET", "warn", f"is unset or shorter than {MIN_SECRET_LENGTH} characters: the HTTP trigger is off.",
            "Set it if other schedulers should trigger runs.",
        )  # fmt: skip
    else:
        yield finding("CRON_SECRET", "ok", "is set.")


def examine_readiness(system: System, home: Home) -> Iterator[Finding]:
    """The six points of S1-25 for one system: what can be seen, and what a person has to confirm."""

    def finding(subject: str, status: Status, what: str, todo: str = "") -> Finding:
        return Finding(system.name, subject, status, what, todo)

    variables = [system.database.url_env, *(store.url_env for store in system.stores.values())]
    if used := [variable for variable in variables if home.is_demo(variable)]:
        yield finding("environment", "fail", f"the demonstration stands in for {', '.join(used)}.", "Set them.")
    yield finding("1 tests", "unknown", "were not run by this command.", "Run `maintain test` on this version.")
    last = home.control.latest(system.name, "orphan_diff")
    if last is None:
        yield finding("2 validation", "fail", "was never reconciled.", f"Run `maintain report {system.name}`.")
        yield finding("3 no errors", "unknown", "there is no reconciliation to look at.")
    else:
        told = f"the reconciliation of {format_instant(last.ended_at)} is {last.verdict}"
        if last.verdict == "complete":
            yield finding("2 validation", "ok", f"{told}.")
        else:
            yield finding(
                "2 validation", "fail", f"{told} ({last.reason}).", f"See `maintain report {system.name} --last`."
            )
        tripped = [guard for guard in last.evidence.get("guards", ()) if guard["status"] != "pass"]
        names = ", ".join(guard["name"] for guard in tripped)
        yield finding("3 no errors", "warn" if tripped else "ok", f"guards tripped: {names or 'none'}.")
    yield finding(
        "4 database backup", "unknown", "nobody has said that there is one.", "Check that it can be restored."
    )
    yield finding("5 low-traffic window", "unknown", "see the schedules in sensors/.", "Nothing is deleted by reports.")
    yield finding("6 operations notified", "unknown", "nobody has said so.", "Tell them.")


def accept_pair(system: System, home: Home, actor: str, reason: str) -> list[str]:
    """Accept the pairs of database and store that the last reconciliation refused (E06); the stores' names.

    Accepted is what was seen and reported, never what the environment says by now.
    Raises Refused when the last reconciliation refused none.
    """
    last = home.control.latest(system.name, "orphan_diff")
    changed = [
        guard
        for guard in (last.evidence.get("guards", ()) if last is not None else ())
        if guard["name"] == "pair_changed" and guard["status"] == "refuse"
    ]
    if not changed:
        raise Refused(
            "no_pair_refused",
            f"the last reconciliation of {system.name} refused no pair of database and store, so there is none to "
            f"accept. Run `maintain report {system.name}` first.",
        )
    for guard in changed:
        home.control.accept_pair(system.name, guard["store"], guard["measured"], actor, reason)
    return [guard["store"] for guard in changed]
