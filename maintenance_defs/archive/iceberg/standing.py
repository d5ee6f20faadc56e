"""How an Iceberg table and the catalogue stand to each other."""

from __future__ import annotations

from dataclasses import dataclass

from maintenance_defs.control.archive import FileRow


@dataclass(frozen=True)
class LeftOut:
    """A file of the archive that cannot be read as a part of the table without being written again."""

    file: FileRow
    why: str


@dataclass(frozen=True)
class Standing:
    """table: its name. exists: whether the catalogue of tables has it.

    files: live files that it should name; rows: theirs. missing, extra: keys that it does not name and should, and
    locations that it names and should not. other: what else of it is not as it should be. left_out: see LeftOut.
    in_table: months whose files are not in it because their rows are still in their PostgreSQL table.
    added, removed: files, by the call that returned this. metadata: where the table's description is.
    """

    table: str
    exists: bool
    files: int = 0
    rows: int = 0
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    in_table: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0
    metadata: str | None = None

    @property
    def well(self) -> bool:
        """Whether the table holds exactly what can be in it."""
        return not (self.missing or self.extra or self.other) and (self.exists or not self.files)
