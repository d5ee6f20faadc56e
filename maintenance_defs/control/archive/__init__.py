"""What archives must remember: units and how far they came, files and whose rows they hold, keys, periods seen.

Belongs here: the catalogue, the truth for readers (V6). Not here: how a file is made or proven (`archive/`).
"""

from maintenance_defs.control.archive.files import FileRow, Files, Group, IndexRow, file_id
from maintenance_defs.control.archive.kept import KEPT, Kept
from maintenance_defs.control.archive.keys import Keys
from maintenance_defs.control.archive.reads import ReadNote, Reads
from maintenance_defs.control.archive.units import STATES, UnitRow, Units
from maintenance_defs.control.archive.values import ValueRow, Values


class ArchiveState(Units, Files, Kept, Keys, Reads, Values):
    """`Control.archive`. Every method is one transaction; times come from the control's clock unless given."""


__all__ = [
    "KEPT", "STATES", "ArchiveState", "FileRow", "Group", "IndexRow", "ReadNote", "UnitRow", "ValueRow", "file_id",
]  # fmt: skip
