"""Reading the archive: one value's rows, queries over whole tables, data sets and views for analysts.

Belongs here: what readers see, each row once and never one that expired. Not here: how a row comes into the archive.
"""

from maintenance_defs.archive.reading.dataset import dataset
from maintenance_defs.archive.reading.exported import views_sql, write_views
from maintenance_defs.archive.reading.filesystem import ArchiveFileSystem
from maintenance_defs.archive.reading.get import Got, get
from maintenance_defs.archive.reading.query import is_asked, query
from maintenance_defs.archive.reading.stored import FileDamaged, Reads
from maintenance_defs.archive.reading.views import Views, open_views

__all__ = [
    "ArchiveFileSystem",
    "FileDamaged",
    "Got",
    "Reads",
    "Views",
    "dataset",
    "get",
    "is_asked",
    "open_views",
    "query",
    "views_sql",
    "write_views",
]
