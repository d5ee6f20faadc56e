"""Putting rows back: what was deleted is inserted again, what was set is set back; exactly, or not at all."""

from __future__ import annotations

from collections.abc import Sequence

from maintenance_defs.databases.acting import RowDone, RowImage
from maintenance_defs.databases.acting_rows import RowError, Session, Target, differing, in_doubt, without_values


def restore(session: Session, images: Sequence[RowImage]) -> list[RowDone]:
    """See ActingDatabase.restore."""
    done: dict[int, RowDone] = {}
    targets = _targets(session, images)
    waiting = list(enumerate(images))
    while waiting:  # a row may need another one of the same list: again, as long as one more could be put back
        for n, image in waiting:
            done[n] = _put_back(session, targets[image.table, image.id_columns], image)
        refused = [(n, image) for n, image in waiting if done[n].outcome == "failed"]
        if len(refused) == len(waiting):
            break
        waiting = refused
    doubt = session.commit()
    return [in_doubt(done[n], doubt) for n in range(len(images))]


def _targets(session: Session, images: Sequence[RowImage]) -> dict[tuple[str, tuple[str, ...]], Target]:
    wanted = dict.fromkeys((image.table, image.id_columns) for image in images)
    return {(table, id_columns): session.target(table, id_columns) for table, id_columns in wanted}


def _put_back(session: Session, target: Target, image: RowImage) -> RowDone:
    there = session.look(target, [image.row_id]).rows.get(image.row_id, [])
    if there and not differing(image, there[0][0]):
        return RowDone(image.row_id, "restored", "it was there already", image, there[0][0])
    if there:
        return RowDone(image.row_id, "failed", "a row with this id is there, with other content", image)
    gone = set(image.columns) - {column.name for column in target.columns}
    if gone:
        return RowDone(image.row_id, "failed", f"the table no longer has {', '.join(sorted(gone))}", image)
    try:
        with session.savepoint():
            session.insert(target, image)
            rows = session.look(target, [image.row_id]).rows.get(image.row_id, [])
            _check_same(image, [row for row, _ in rows])
    except RowError as error:
        return RowDone(image.row_id, "failed", without_values(error.words, image), image)
    return RowDone(image.row_id, "restored", None, image, rows[0][0])


def _check_same(image: RowImage, rows: Sequence[RowImage]) -> None:
    if not rows:
        raise RowError("a trigger or rule left the row out, without an error")
    other = [name for name in differing(image, rows[0]) if name in image.columns]
    if other:
        raise RowError(f"the row would not be the same in {', '.join(other)}: a trigger, or a changed type")


def revert(session: Session, before: Sequence[RowImage], after: Sequence[RowImage]) -> list[RowDone]:
    """See ActingDatabase.revert."""
    expected = {(image.table, image.row_id): image for image in after}
    targets = _targets(session, before)
    done = [
        _set_back(session, targets[old.table, old.id_columns], old, expected.get((old.table, old.row_id)))
        for old in before
    ]
    doubt = session.commit()
    return [in_doubt(one, doubt) for one in done]


def _set_back(session: Session, target: Target, old: RowImage, expected: RowImage | None) -> RowDone:
    if expected is None:
        return RowDone(old.row_id, "failed", "what the row was set to is not known", old)
    try:
        looked = session.look(target, [old.row_id], lock=True)
    except RowError as error:
        return RowDone(old.row_id, "failed", error.words, old)
    if old.row_id in looked.busy:
        return RowDone(old.row_id, "failed", "another session holds a lock on the row", old)
    rows = looked.rows.get(old.row_id, [])
    if not rows:
        return RowDone(old.row_id, "skipped_changed", "deleted since it was set", old)
    if len(rows) != 1:
        return RowDone(old.row_id, "failed", f"{len(rows)} rows have this id", old)
    now = rows[0][0]
    if not differing(old, now):
        return RowDone(old.row_id, "restored", "it had these values already", old, now)
    if changed := differing(expected, now):
        return RowDone(old.row_id, "skipped_changed", f"changed since it was set: {', '.join(changed)}", old)
    generated = {column.name for column in target.columns if column.generated}
    names = [name for name in differing(old, now) if name not in generated]
    try:
        with session.savepoint():
            session.update(target, [old.row_id], None, {name: session.value_of(old, name) for name in names})
    except RowError as error:
        return RowDone(old.row_id, "failed", without_values(error.words, old), old)
    rows = session.look(target, [old.row_id]).rows.get(old.row_id, [])
    if not rows or not differing(expected, rows[0][0]):
        return RowDone(old.row_id, "failed", "a trigger or rule left the row as it was, without an error", old)
    other = differing(old, rows[0][0])
    detail = f"a trigger wrote {', '.join(other)}" if other else None
    return RowDone(old.row_id, "restored", detail, old, rows[0][0])
