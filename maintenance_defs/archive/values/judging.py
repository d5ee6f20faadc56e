"""Whether a row's value may leave it, and why not. Asked of the plan's snapshot and again of the act's own (V2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from maintenance_defs.archive.values.source import Row
from maintenance_defs.control.archive import ValueRow
from maintenance_defs.core.archive import ColumnArchive
from maintenance_defs.core.quantities import format_duration

# Why a row keeps its value. Those in LISTED are shown by their ids: a person may have to do something.
RUNNING, YOUNG, UNDATED, NO_VALUE, SLIM = "running", "young", "undated", "no_value", "slim"
HELD, CHECK, NOT_OBJECT, UNKNOWN_SHAPE = "held", "check", "not_object", "unknown_shape"
RAN_AGAIN, RESTORED, OTHER_SOURCE = "ran_again", "restored", "other_source"
LISTED = (UNDATED, HELD, CHECK, NOT_OBJECT, UNKNOWN_SHAPE, RAN_AGAIN, RESTORED, OTHER_SOURCE)


@dataclass(frozen=True)
class Stay:
    why: str
    words: str


def judge(row: Row, known: ValueRow | None, archive: ColumnArchive, identity: str, as_of: datetime) -> Stay | None:
    """None: the value may be archived, as far as the row and what is recorded of it say.

    known: what is recorded of the row. identity: of the database the row is in (G103).
    """
    if row.shape in (None, "null"):
        return Stay(NO_VALUE, "it has no value")
    if row.slim_sha256 == row.digest or (known is not None and known.slim_sha256 == row.digest):
        return Stay(SLIM, "it is slim already")
    if row.trouble is None and not row.finished:
        return Stay(RUNNING, "it is not finished")
    if row.dated_at is None:
        return Stay(UNDATED, f"its {archive.time} is empty")
    if row.dated_at > as_of - archive.hot:
        return Stay(YOUNG, f"{archive.time} is less than {format_duration(archive.hot)} ago")
    if known is not None and known.state != "planned":
        if known.source != identity:
            return Stay(OTHER_SOURCE, "its value was archived from another database")
        if known.sha256 != row.digest or known.state in ("expiring", "expired"):
            return Stay(RAN_AGAIN, f"it was archived before as {known.key} and holds a whole value again")
        if known.state == "restored" and known.changed_at > as_of - archive.hot:
            return Stay(RESTORED, f"it was restored less than {format_duration(archive.hot)} ago")
    if row.shape != "object":
        return Stay(NOT_OBJECT, f"its value is of type {row.shape}, not an object")
    if row.slim_sha256 is None:
        return Stay(UNKNOWN_SHAPE, row.trouble or "no slim value can be made of it")
    return None
