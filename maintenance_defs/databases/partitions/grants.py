"""Who may do what with a table, read and given again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from maintenance_defs.databases.partitions.sql import act, ask
from maintenance_defs.databases.statements import quote

# Grants, to others than the owner, on the table and on its columns (column null: the whole table).
GRANTS = """
SELECT c.oid::int8 AS oid, NULL AS column, pg_get_userbyid(x.grantee)::text AS grantee, x.grantee = 0 AS everybody,
       x.privilege_type AS privilege, x.is_grantable AS grantable
  FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = ANY (CAST(%(oids)s AS oid[])) AND x.grantee <> c.relowner
UNION ALL
SELECT c.oid::int8, a.attname, pg_get_userbyid(x.grantee)::text, x.grantee = 0, x.privilege_type, x.is_grantable
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped, aclexplode(a.attacl) x
 WHERE c.oid = ANY (CAST(%(oids)s AS oid[])) AND x.grantee <> c.relowner
 ORDER BY 1, 2 NULLS FIRST, 3, 5
"""


def read_grants(connection: Connection, oids: list[int]) -> list[dict[str, Any]]:
    """Each grant as plain values: they may be stored as JSON."""
    return ask(connection, GRANTS, oids=oids)


def grant(connection: Connection, given: Mapping[str, Any], place: str) -> bool:
    """Give it on the quoted table; False when the role is gone."""
    if not given["everybody"] and not ask(
        connection, "SELECT FROM pg_roles WHERE rolname = %(role)s", role=given["grantee"]
    ):
        return False
    option = " WITH GRANT OPTION" if given["grantable"] else ""
    act(connection, f"GRANT {given['privilege']}{_column(given)} ON TABLE {place} TO {_whom(given)}{option}")
    return True


def revoke(connection: Connection, given: Mapping[str, Any], place: str) -> None:
    """Take away everything that the role has there."""
    act(connection, f"REVOKE ALL{_column(given)} ON TABLE {place} FROM {_whom(given)} CASCADE")


def _column(given: Mapping[str, Any]) -> str:
    return f" ({quote(given['column'])})" if given["column"] else ""


def _whom(given: Mapping[str, Any]) -> str:
    return "PUBLIC" if given["everybody"] else quote(given["grantee"])
