"""The archive as an Iceberg table, for Spark and Trino: made of the very files of the archive, which it only names.

Belongs here: bringing the table up to what the catalogue says, and telling whether it is. Not here: what is in the
archive, or when an object goes; nothing in here ever removes one of the archive's objects (L14). The catalogue is
the truth, and the table can be made again from it at any time (V6).

PyIceberg is imported by the modules below `door` only, where an archive declares a table.
"""

from maintenance_defs.archive.iceberg.door import IcebergUnavailable, compare, keep_up, publish
from maintenance_defs.archive.iceberg.standing import LeftOut, Standing

__all__ = ["IcebergUnavailable", "LeftOut", "Standing", "compare", "keep_up", "publish"]
