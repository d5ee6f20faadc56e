"""The catalogue of tables that an environment variable names, opened for one archive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import sqlalchemy as sa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from maintenance_defs.archive.iceberg.files import PLACE, Place
from maintenance_defs.archive.objects import open_archive_store
from maintenance_defs.archive.reading.door import Door
from maintenance_defs.archive.units.exporting import spool
from maintenance_defs.core.archive import Iceberg
from maintenance_defs.core.errors import DeclarationError, Refused

NAME = "maintenance"  # of the catalogue: in a SQL one, tables belong to a name
OWNER = "maintenance.archive"  # table property: whose it is; a table without it is never touched (V10)
SOURCE = "maintenance.source"  # and of which database the rows are (G103)
KNOWN = "sqlite:///<file>, postgresql+psycopg2://<user>:<password>@<host>/<database>, https://<REST catalogue>"


@dataclass(frozen=True)
class Opened:
    """One archive's place in a catalogue of tables."""

    catalog: Catalog
    place: Place
    declared: Iceberg
    owner: str  # 'shop/order_log'

    @property
    def identifier(self) -> tuple[str, ...]:
        return tuple(self.declared.table.split("."))

    def table(self) -> Table | None:
        """As it is now. Raises Refused("not_ours") where another one has its name."""
        try:
            found = self.catalog.load_table(self.identifier)
        except NoSuchTableError:
            return None
        whose = found.properties.get(OWNER)
        if whose != self.owner:
            raise Refused(
                "not_ours",
                f"the Iceberg table {self.declared.table} is there already and is not that of {self.owner}"
                f"{f', but of {whose}' if whose else ''}. Nothing was changed; declare another name.",
            )
        return found


@contextmanager
def opened(door: Door, declared: Iceberg) -> Iterator[Opened]:
    """Raises EnvironmentMissing, DeclarationError, StoreUnavailable; what PyIceberg raises is worded by `door`."""
    url = door.home.value(declared.catalog_env, f"the catalogue of the Iceberg table {declared.table}")
    store = open_archive_store(door.system, door.archive.store, door.home)
    place = Place(store, declared.folder, spool(door.home))
    catalog = _catalog(declared, url, place)
    try:
        yield Opened(catalog, place, declared, f"{door.system.name}/{door.name}")
    finally:
        catalog.close()


def _catalog(declared: Iceberg, url: str, place: Place) -> Catalog:
    files = {"py-io-impl": "maintenance_defs.archive.iceberg.files.MetadataFiles", PLACE: place.token}
    if url.startswith(("https://", "http://")):
        parts = urlsplit(url)  # ?warehouse=…&credential=…: what else a REST catalogue is to be told
        return RestCatalog(
            NAME, uri=urlunsplit(parts._replace(query="")), **dict(parse_qsl(parts.query)), **files
        )  # fmt: skip
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise DeclarationError([f"{declared.catalog_env} is no URL of a catalogue. Known: {KNOWN}."]) from None
    if parsed.drivername in ("postgresql", "postgres"):  # SQLAlchemy would look for another driver
        parsed = parsed.set(drivername="postgresql+psycopg2")
    if parsed.drivername not in ("sqlite", "postgresql+psycopg2"):
        raise DeclarationError(
            [f"{declared.catalog_env} begins with {parsed.drivername}://, which cannot be used. Known: {KNOWN}."]
        )
    return SqlCatalog(NAME, uri=parsed.render_as_string(hide_password=False), **files)
