"""What YAML may say about following one row through everything that belongs to it: the trail of a segment (S3-43)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import model_validator

from maintenance_defs.core.vocabulary import Declared, Name, Sql, Strings, Word

OPTIONS = ("last", "row", "as_of", "json", "help")  # of `maintain validate`, which gives each trail an option too


class TrailLink(Declared):
    """The row of another table that belongs to a row found before it."""

    table: Word
    id: Word
    match: Sql  # a column, or SQL over this table's columns, whose text is …
    value: Word  # … that of this column …
    of: Word | None = None  # … of the row of this table; of the row just before where absent
    where: Sql | None = None  # which rows count
    newest_by: Word | None = None  # of several the one that is newest by this column; else the first by id
    good: Sql | None = None  # what must hold of it: state <> 'failed'
    show: Strings = ()


class Trail(Declared):
    """One row, the rows that belong to it, in order; and, behind each, the objects that its references name."""

    describe: str
    table: Word
    id: Word
    show: Strings = ()
    links: tuple[TrailLink, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        seen = [self.table]
        for number, link in enumerate(self.links):
            if link.of is not None and link.of not in seen:
                raise ValueError(f"links.{number}.of: {link.of!r} is not before it; there is {', '.join(seen)}")
            if link.table in seen:
                raise ValueError(f"links.{number}.table: {link.table!r} is in the trail already")
            seen.append(link.table)
        return self

    def needed_of(self, table: str) -> tuple[str, ...]:
        """The columns of its row that later links compare with."""
        before, found = self.table, []
        for link in self.links:
            if (link.of or before) == table:
                found.append(link.value)
            before = link.table
        return tuple(dict.fromkeys(found))


def check_trails(trails: dict[Name, Trail]) -> Iterator[str]:
    """'trails.<name>: what is wrong'."""
    for name in trails:
        if name in OPTIONS:
            yield f"trails.{name}: `maintain validate` has an option of that name; choose another"
