"""What a schema version of the catalogue holds: the columns of the files of that time, so that they can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from maintenance_defs.archive.rows.columns import Column
from maintenance_defs.archive.rows.part import Join, Part, settled

JOINED = "joined"  # of an entry: it stands in the file only, its values came from another table


def catalogued(part: Part, columns: Sequence[Column]) -> list[dict[str, Any]]:
    """The columns as the part's files have them, in order. See reading/shapes.file_fields for the way back."""
    listed = [asdict(column) for column in settled(part, columns)]
    join = part.organisation
    if isinstance(join, Join):
        listed.append({"name": join.stored_as, JOINED: f"{join.schema}.{join.name}.{join.column}"})
    return listed
