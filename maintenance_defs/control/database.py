"""The control database: one row per artefact, the pairs of database and store, and the trigger's requests.

Findings have their own file, `findings.py`; their methods are handed on here. What retention keeps
(plans, consent, ledger, quarantine, holds) has a room of its own, `retention/`, and so have archives.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from maintenance_defs.control import findings
from maintenance_defs.control.alone import alone
from maintenance_defs.control.archive import ArchiveState
from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.connect import connect
from maintenance_defs.control.retention import RetentionState
from maintenance_defs.control.tables import artefact, pair_fingerprint, request
from maintenance_defs.core.errors import ArtefactError

STREAMED = 200  # artefacts read at once


@dataclass(frozen=True)
class Request:
    """requested -> started (run_id) -> finished (verdict, artefact_id)."""

    id: int
    key: str  # the caller's Idempotency-Key
    system: str
    what: str
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    run_id: str | None
    verdict: str | None
    artefact_id: str | None

    @property
    def state(self) -> str:
        return "finished" if self.finished_at else "started" if self.started_at else "requested"


@dataclass(frozen=True)
class Attempt:
    """An artefact without what it holds: that a step was tried, when, and what became of it."""

    id: str
    kind: str
    name: str
    run_id: str
    started_at: datetime
    ended_at: datetime
    verdict: str
    reason: str | None
    message: str | None


class Control:
    """Our own state. Every method is one transaction; safe for several threads and processes."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._clock = clock
        self.retention = RetentionState(engine, clock)
        self.archive = ArchiveState(engine, clock)

    @classmethod
    def open(cls, url: str) -> Control:
        """Open and migrate; creates an SQLite file. Raises DeclarationError, SourceUnavailable."""
        return cls(connect(url))

    def close(self) -> None:
        self._engine.dispose()

    def now(self) -> datetime:
        """The control's clock."""
        return self._clock()

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def alone(self, system: str, wait_seconds: float = 0) -> Iterator[None]:
        """No other process works on the system meanwhile (M04). Raises Busy after `wait_seconds`."""
        with alone(self._engine, system, wait_seconds):
            yield

    # Artefacts

    def record(self, new: Artefact) -> None:
        """Say what a step left behind; written once, never changed. Raises ArtefactError for a known id."""
        if new.verdict not in ("complete", "incomplete", "refused"):
            raise ValueError(f"verdict {new.verdict!r} is none of complete, incomplete, refused")
        values = asdict(new) | {"inputs": list(new.inputs), "recorded_at": self._clock()}
        try:
            with self._write() as connection:
                connection.execute(artefact.insert(), values)
        except sa.exc.IntegrityError:
            raise ArtefactError(
                f"artefact {new.id} is recorded already. Its row was kept as it is: use a fresh id."
            ) from None

    def get(self, id: str) -> Artefact:
        """Raises ArtefactError for an unknown id."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(artefact).where(artefact.c.id == id)).one_or_none()
        if row is None:
            raise ArtefactError(f"artefact {id} is not recorded in this control database.")
        return _artefact(row)

    def latest(self, system: str, kind: str, name: str = "", *, verdict: str | None = None) -> Artefact | None:
        """The one recorded last, with any verdict or the given one; no clock is asked."""
        query = _recorded(system, kind, name).limit(1)
        if verdict is not None:
            query = query.where(artefact.c.verdict == verdict)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _artefact(row)

    def history(self, system: str, kind: str, name: str = "", limit: int = 30) -> list[Artefact]:
        """The last ones, newest first, whatever their verdict."""
        with self._engine.connect() as connection:
            return [_artefact(row) for row in connection.execute(_recorded(system, kind, name).limit(limit))]

    def recorded_between(self, system: str, kind: str, since: datetime, until: datetime) -> Iterator[Artefact]:
        """Those of a kind whose step began in [since, until), oldest first, whatever their verdict; streamed."""
        query = (
            sa.select(artefact)
            .where(artefact.c.system == system, artefact.c.kind == kind)
            .where(artefact.c.started_at >= since, artefact.c.started_at < until)
            .order_by(artefact.c.number)
            .execution_options(yield_per=STREAMED)
        )
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                yield _artefact(row)

    def newest_until(self, system: str, kind: str, name: str, until: datetime) -> Artefact | None:
        """The one recorded last among those of this instant or an earlier one, whatever its verdict."""
        with self._engine.connect() as connection:
            query = _recorded(system, kind, name).where(artefact.c.as_of <= until).limit(1)
            row = connection.execute(query).one_or_none()
        return None if row is None else _artefact(row)

    def complete_between(
        self, system: str, kind: str, name: str, since: datetime, until: datetime, *, before: str | None = None
    ) -> list[tuple[datetime, str]]:
        """(instant, id) of the complete ones of [since, until], earliest first.

        before: an artefact; only what was recorded earlier than it.
        """
        query = (
            sa.select(artefact.c.as_of, artefact.c.id)
            .where(artefact.c.system == system, artefact.c.kind == kind, artefact.c.name == name)
            .where(artefact.c.verdict == "complete", artefact.c.as_of >= since, artefact.c.as_of <= until)
            .order_by(artefact.c.as_of, artefact.c.number)
        )
        if before is not None:
            number = sa.select(artefact.c.number).where(artefact.c.id == before).scalar_subquery()
            query = query.where(artefact.c.number < number)
        with self._engine.connect() as connection:
            return [(at, id_) for at, id_ in connection.execute(query)]

    def attempts(
        self, system: str, kind: str, name: str | None = None, *, since: datetime | None = None,
        until: datetime | None = None, limit: int | None = None,
    ) -> list[Attempt]:  # fmt: skip
        """What was tried of a kind, newest first: begun in [since, until), or the last ones."""
        # Whole, and only where there is a message: PostgreSQL takes nothing out of JSON that holds a NUL character.
        evidence = sa.case((artefact.c.verdict != "complete", sa.cast(artefact.c.evidence, sa.Text))).label("evidence")
        columns = [artefact.c[field.name] for field in fields(Attempt) if field.name != "message"]
        query = sa.select(*columns, evidence).where(artefact.c.system == system, artefact.c.kind == kind)
        if name is not None:
            query = query.where(artefact.c.name == name)
        if since is not None:
            query = query.where(artefact.c.started_at >= since)
        if until is not None:
            query = query.where(artefact.c.started_at < until)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(artefact.c.number.desc()).limit(limit))
            found = [dict(row._mapping) for row in rows]
        return [Attempt(message=json.loads(row.pop("evidence") or "{}").get("message"), **row) for row in found]

    # Findings

    def observe_findings(self, system: str, store: str, seen_by: Artefact, batches: Iterable[pa.RecordBatch]) -> None:
        """See findings.observe; all of it or nothing."""
        with self._write() as connection:
            findings.observe(connection, system, store, seen_by, batches, self._clock())

    def findings(
        self, system: str, store: str | None = None, *, key: str | None = None, open_only: bool = True
    ) -> Iterator[pa.RecordBatch]:
        """Batches of findings.FINDINGS in no order; of all stores where none is named."""
        with self._engine.connect() as connection:
            yield from findings.read(connection, system, store, key, open_only)

    # Pairs

    def check_pair(self, system: str, store: str, fingerprint: str) -> str | None:
        """Register the first fingerprint of a store; return the registered one when this one differs (E06)."""
        with self._write() as connection:
            registered = connection.execute(_pair(system, store)).first()
            if registered is None:
                self._add_pair(connection, system, store, 0, fingerprint, None, None)
                # Two first runs at once: both see the one that came first.
                registered = connection.execute(_pair(system, store)).one()
        return None if registered.fingerprint == fingerprint else registered.fingerprint

    def accept_pair(self, system: str, store: str, fingerprint: str, actor: str, reason: str) -> None:
        """From now on this is the pair; who said so and why stays on record."""
        if not actor.strip() or not reason.strip():
            raise ValueError("accepting another pair of database and store needs an actor and a reason")
        with self._write() as connection:
            newest = connection.execute(_pair(system, store)).first()
            revision = 0 if newest is None else newest.revision + 1
            self._add_pair(connection, system, store, revision, fingerprint, actor, reason)

    def _add_pair(
        self, connection: sa.Connection, system: str, store: str, revision: int, fingerprint: str,
        actor: str | None, reason: str | None,
    ) -> None:  # fmt: skip
        values = {
            "system": system, "store": store, "revision": revision, "fingerprint": fingerprint,
            "actor": actor, "reason": reason, "recorded_at": self._clock(),
        }  # fmt: skip
        connection.execute(findings.insert(connection, pair_fingerprint).values(values).on_conflict_do_nothing())

    # Requests of the HTTP trigger

    def add_request(self, key: str, system: str, what: str, *, lost_before: datetime | None = None) -> Request:
        """The request with this key: the one made earlier, or a new one.

        While another request of the system is not finished, that one is returned instead; its key
        tells. lost_before: unfinished ones that were made earlier count as lost and stand in
        nobody's way.
        """
        with self._write() as connection:
            if lost_before is not None:
                connection.execute(
                    request.update()
                    .where(request.c.system == system, request.c.finished_at.is_(None))
                    .where(request.c.requested_at < lost_before)
                    .values(finished_at=self._clock(), verdict="lost")
                )
            values = {"key": key, "system": system, "what": what, "requested_at": self._clock()}
            connection.execute(findings.insert(connection, request).values(values).on_conflict_do_nothing())
            mine = sa.select(request).where(request.c.system == system)
            row = connection.execute(mine.where(request.c.key == key)).one_or_none()
            row = row or connection.execute(mine.where(request.c.finished_at.is_(None))).one()
        return Request(**row._mapping)

    def get_request(self, id: int) -> Request:
        """Raises ArtefactError for an unknown id."""
        found = self.find_request(id)
        if found is None:
            raise ArtefactError(f"request {id} is not recorded in this control database. Ask again.")
        return found

    def find_request(self, id: int) -> Request | None:
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(request).where(request.c.id == id)).one_or_none()
        return None if row is None else Request(**row._mapping)

    def pending_requests(self, after_id: int = 0) -> list[Request]:
        """Requests that nobody has started, oldest first, with an id above `after_id`."""
        query = sa.select(request).where(
            request.c.id > after_id, request.c.started_at.is_(None), request.c.finished_at.is_(None)
        )
        with self._engine.connect() as connection:
            return [Request(**row._mapping) for row in connection.execute(query.order_by(request.c.id))]

    def mark_request(
        self, id: int, *, run_id: str | None = None, verdict: str | None = None, artefact_id: str | None = None
    ) -> bool:
        """Started, where only run_id is given; finished, where a verdict is. False if it had happened already."""
        change: dict[str, Any] = {"run_id": run_id} if run_id is not None else {}
        if verdict is None:
            change["started_at"] = self._clock()
            before = request.c.started_at.is_(None)
        else:
            change |= {"finished_at": self._clock(), "verdict": verdict, "artefact_id": artefact_id}
            before = request.c.finished_at.is_(None)
        with self._write() as connection:
            done = connection.execute(
                request.update().where(request.c.id == id, request.c.finished_at.is_(None), before).values(change)
            )
            return done.rowcount == 1


def _recorded(system: str, kind: str, name: str) -> sa.Select[Any]:
    return (
        sa.select(artefact)
        .where(artefact.c.system == system, artefact.c.kind == kind, artefact.c.name == name)
        .order_by(artefact.c.number.desc())
    )


def _pair(system: str, store: str) -> sa.Select[Any]:
    return (
        sa.select(pair_fingerprint)
        .where(pair_fingerprint.c.system == system, pair_fingerprint.c.store == store)
        .order_by(pair_fingerprint.c.revision.desc())
        .limit(1)
    )


def _artefact(row: sa.Row[Any]) -> Artefact:
    values = dict(row._mapping)
    values["inputs"] = tuple(values["inputs"])
    return Artefact(**{name: values[name] for name in Artefact.__dataclass_fields__})
