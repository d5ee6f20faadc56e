"""What every acting database does in the same way: lock, compare, change, tell row by row.

A dialect brings a Session (one transaction); the order of events, and what each row is told, stand here once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from maintenance_defs.core.errors import Refused
from maintenance_defs.core.schemas import NOT_UTF8
from maintenance_defs.databases.acting import RowDone, RowImage
from maintenance_defs.databases.row_ids import IdColumn, by_texts


@dataclass(frozen=True)
class Column:
    name: str
    type_name: str  # as the database would cast to it
    text: str  # SQL for its lossless text
    generated: bool
    base: str = ""  # the type a domain stands on


@dataclass(frozen=True)
class Target:
    """A table as it stands now."""

    name: str  # as it was asked for
    sql: str  # quoted, qualified
    columns: tuple[Column, ...]
    id_columns: tuple[str, ...]
    ids: tuple[IdColumn, ...]


@dataclass(frozen=True)
class Looked:
    """The rows of some ids: by id, each with whether the predicate holds; and the ids another session keeps locked."""

    rows: dict[str, list[tuple[RowImage, bool]]]
    busy: frozenset[str] = frozenset()


STORAGE = "stored as "  # begins the type of a value whose storage class is its own: SQLite


class RowError(Exception):
    """The database refused one statement; `words` hold no values and the transaction goes on.

    referenced: because of a foreign key.
    """

    def __init__(self, words: str, *, referenced: bool = False) -> None:
        self.words = words
        self.referenced = referenced
        super().__init__(words)


class Session(Protocol):
    """One writing transaction; rolled back unless committed."""

    def target(self, table: str, id_columns: Sequence[str]) -> Target: ...
    def predicate(self, where: str, parameters: Mapping[str, Any]) -> Any: ...
    def look(self, target: Target, row_ids: Sequence[str], predicate: Any = None, lock: bool = False) -> Looked:
        """Raises RowError when the locks cannot be had at all."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Undone when its body raises; the database's refusals leave it as RowError."""

    def impatient(self) -> None:
        """From now on wait for nobody: a lock was waited for already."""

    def delete(self, target: Target, row_ids: Sequence[str], predicate: Any) -> dict[str, bool]: ...
    def update(
        self, target: Target, row_ids: Sequence[str], predicate: Any, values: Mapping[str, Any]
    ) -> dict[str, bool]:
        """By row id of what was changed: whether it now has these values."""

    def has(self, target: Target, row_ids: Sequence[str], values: Mapping[str, Any]) -> dict[str, bool]: ...
    def insert(self, target: Target, image: RowImage) -> None: ...
    def value_of(self, image: RowImage, column: str) -> Any: ...
    def commit(self) -> tuple[str, str] | None:
        """None when it is certain; else the outcome and detail of whatever was changed."""


def change(
    session: Session,
    table: str,
    id_columns: Sequence[str],
    images: Sequence[RowImage],
    where: str,
    parameters: Mapping[str, Any],
    values: Mapping[str, Mapping[str, Any]] | None,
    *,
    rehearse: bool = False,
) -> list[RowDone]:
    """delete() where values is None, else update(). See ActingDatabase. rehearse: nothing is committed."""
    target = session.target(table, id_columns)
    by_id = {image.row_id: image for image in images}
    if values is not None:
        for row_id in by_id:
            _check_values(target, values.get(row_id, {}))
    predicate = session.predicate(where, parameters)
    try:
        looked = session.look(target, list(by_id), predicate, lock=True)
    except RowError as error:
        return [RowDone(image.row_id, "failed", error.words, image) for image in images]
    done = {row_id: _judge(image, looked) for row_id, image in by_id.items()}
    took: dict[str, bool] = {}
    for row_ids, new in _groups([row_id for row_id, verdict in done.items() if verdict is None], values):

        def act(some: Sequence[str], new: Mapping[str, Any] | None = new) -> dict[str, bool]:
            if new is None:
                return session.delete(target, some, predicate)
            return session.update(target, some, predicate, new)

        for row_id, refusal in at_once_or_singly(session, row_ids, act, took).items():
            outcome = "skipped_referenced" if values is None and refusal.referenced else "failed"
            done[row_id] = RowDone(row_id, outcome, without_values(refusal.words, by_id[row_id]), by_id[row_id])
    unsettled = [row_id for row_id, verdict in done.items() if verdict is None]
    after = session.look(target, unsettled, predicate).rows
    for row_id in unsettled:
        done[row_id] = _seen_after(by_id[row_id], after.get(row_id, []), took.get(row_id), values)
    doubt = None if rehearse else session.commit()
    told = [verdict for image in images if (verdict := done[image.row_id]) is not None]
    return [in_doubt(one, doubt) for one in told]


def by_row_id(
    target: Target,
    row_ids: Sequence[str],
    found: Iterable[tuple[Sequence[str | None], dict[str, str | None], dict[str, str], Any]],
) -> dict[str, list[tuple[RowImage, bool]]]:
    """Rows of (id texts, columns, types, whether permitted) under the ids as they were asked for."""
    asked = by_texts(row_ids, len(target.ids))
    rows: dict[str, list[tuple[RowImage, bool]]] = {}
    for texts, columns, types, permitted in found:
        row_id = asked.get(tuple(texts))
        if row_id is not None:
            image = RowImage(target.name, row_id, columns, types, target.id_columns)
            rows.setdefault(row_id, []).append((image, bool(permitted)))
    return rows


def only_ones(
    table: str, row_ids: Sequence[str], rows: Mapping[str, Sequence[tuple[RowImage, bool]]]
) -> dict[str, RowImage]:
    """Raises Refused when an id means several rows, or cannot be looked up."""
    for row_id in row_ids:
        found = rows.get(row_id, ())
        if len(found) > 1 or (not found and row_id.startswith(NOT_UTF8)):
            raise Refused(
                "id_not_unique",
                f"the id {row_id!r} means {len(found) or 'no certain'} rows of {table}. Nothing was changed; declare "
                f"id columns that tell every row from every other, in text that is UTF-8.",
            )
    return {row_id: found[0][0] for row_id, found in rows.items()}


def in_doubt(one: RowDone, doubt: tuple[str, str] | None) -> RowDone:
    """The outcome of a row whose transaction may not have been committed."""
    if doubt is None or one.outcome not in ("deleted", "set", "restored"):
        return one
    return RowDone(one.row_id, *doubt, before=one.before)


def _check_values(target: Target, new: Mapping[str, Any]) -> None:
    known = {column.name for column in target.columns}
    wrong = [name for name in new if name not in known or name in target.id_columns]
    if wrong or not new:
        raise Refused(
            "cannot_set",
            f"{', '.join(map(repr, wrong)) or 'no column'} cannot be set in {target.name}: only columns that it has, "
            f"and not the id, can. Nothing was changed; correct the policy, or apply the migration that adds it.",
        )


def _judge(image: RowImage, looked: Looked) -> RowDone | None:
    """What is to be told instead of acting; None: act."""
    if image.row_id in looked.busy:
        return RowDone(image.row_id, "failed", "another session holds a lock on the row", image)
    rows = looked.rows.get(image.row_id, [])
    if not rows and image.row_id.startswith(NOT_UTF8):
        return RowDone(image.row_id, "failed", "its id is no UTF-8, the row cannot be looked up", image)
    if not rows:
        return RowDone(image.row_id, "already_absent", None, image)
    if len(rows) > 1:
        return RowDone(image.row_id, "failed", f"{len(rows)} rows have this id", image)
    now, permitted = rows[0]
    if changed := differing(image, now):
        return RowDone(image.row_id, "skipped_changed", f"changed since it was seen: {', '.join(changed)}", image)
    if not permitted:
        return RowDone(image.row_id, "skipped_kept", "the predicate no longer holds", image)
    return None


def differing(one: RowImage, other: RowImage) -> list[str]:
    """The columns that are not the same in both, or only in one of them.

    Storage classes count (SQLite: 1 and '1' are two values); declared types do not: a column may be widened.
    """
    names = dict.fromkeys([*one.columns, *other.columns])
    return [name for name in names if _value(one, name) != _value(other, name)]


def _value(image: RowImage, name: str) -> tuple[bool, str | None, str | None]:
    kind = image.types.get(name, "")
    return name in image.columns, image.columns.get(name), kind if kind.startswith(STORAGE) else None


def _groups(
    row_ids: Sequence[str], values: Mapping[str, Mapping[str, Any]] | None
) -> list[tuple[list[str], Mapping[str, Any] | None]]:
    """Rows that one statement can change: all when deleting, those with the same new values when updating."""
    if values is None:
        return [(list(row_ids), None)] if row_ids else []
    groups: dict[str, tuple[list[str], Mapping[str, Any]]] = {}
    for row_id in row_ids:
        new = values[row_id]
        groups.setdefault(repr(sorted(new.items())), ([], new))[0].append(row_id)
    return list(groups.values())


def at_once_or_singly(
    session: Session, row_ids: Sequence[str], act: Callable[[Sequence[str]], Mapping[str, bool]], took: dict[str, bool]
) -> dict[str, RowError]:
    """Act on all, or on each by itself when that is refused. Returns the refusals, by row id.

    took: is told what act() returned: by row id, whether the row took the change.
    """
    try:
        with session.savepoint():
            changed = act(row_ids)
    except RowError as error:
        if len(row_ids) == 1:
            return {row_ids[0]: error}
    else:
        took |= changed
        return {}
    session.impatient()
    refused: dict[str, RowError] = {}
    for row_id in row_ids:
        refused |= at_once_or_singly(session, [row_id], act, took)
    return refused


def without_values(words: str, image: RowImage) -> str:
    """The words of a refusal, in which a trigger may have written a value of the row."""
    for value in sorted((v for v in image.columns.values() if v and len(v) > 3), key=len, reverse=True):
        words = words.replace(value, "…")
    return words


def _seen_after(
    before: RowImage,
    rows: Sequence[tuple[RowImage, bool]],
    took: bool | None,
    values: Mapping[str, Mapping[str, Any]] | None,
) -> RowDone:
    """The truth about a row whose change was not refused: a trigger may have kept it in silence."""
    if not rows and values is None:
        return RowDone(before.row_id, "deleted", None, before)
    if not rows:
        return RowDone(before.row_id, "failed", "the row was gone after it was set; a trigger removed it", before)
    now, permitted = rows[0]
    if took is None and not permitted:
        return RowDone(before.row_id, "skipped_kept", "the predicate no longer holds", before)
    if took is None and (changed := differing(before, now)):
        return RowDone(before.row_id, "skipped_changed", f"changed since it was seen: {', '.join(changed)}", before)
    if values is None or took is None or (not took and not differing(before, now)):
        return RowDone(before.row_id, "failed", "a trigger or rule left the row as it was, without an error", before)
    detail = None if took else "a trigger wrote other values than these"
    return RowDone(before.row_id, "set", detail, before, now)
