"""Is what may be changed what was read? Two URLs of one system may be meant for two roles, and name two databases."""

from __future__ import annotations

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases import open_database


def refuse_another_writer(system: str, reads: str, writes: str) -> None:
    """Raises Refused("another_database") unless both URLs lead to one database; a replica of it counts as the same."""
    if reads == writes:
        return
    with open_database(reads).snapshot() as read, open_database(writes).snapshot() as written:
        one, other = read.evidence.identity, written.evidence.identity
    if one != other:
        raise Refused(
            "another_database",
            f"{system} is read from {one}, and write_url_env names {other}: another database, whose rows nobody looked "
            f"at. Nothing was changed; give the URL of the same database with the role that may write.",
        )
