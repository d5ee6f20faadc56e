"""Partitions of PostgreSQL: read, taken out of their table, set aside, given back, dropped, made ahead.

Belongs here: what the server's catalogs say, and the order of statements in which nothing is lost and nobody
waits. Not here: what is in an archive, which unit is where in its life, how long anything is kept.
"""

from maintenance_defs.databases.partitions.ahead import Ahead, Note, create_ahead
from maintenance_defs.databases.partitions.catalog import (
    Partition,
    PartitionedTable,
    PlainTable,
    Reference,
    read_partitioned,
    read_relation,
    read_table,
)
from maintenance_defs.databases.partitions.conversion import Conversion, convert_plan
from maintenance_defs.databases.partitions.converting import abandon, convert
from maintenance_defs.databases.partitions.deleting import Deleted, delete_rows, row_keys, wait_for_replicas
from maintenance_defs.databases.partitions.detaching import Blocker, Detached, blockers, detach, repair
from maintenance_defs.databases.partitions.making import find_late_lane, open_late_lane
from maintenance_defs.databases.partitions.ours import Removal, ensure_ours, was_removed
from maintenance_defs.databases.partitions.parking import Parked, find_parked, park
from maintenance_defs.databases.partitions.preflight import Obstacle, preflight
from maintenance_defs.databases.partitions.reattaching import Reattached, reattach
from maintenance_defs.databases.partitions.removing import Contents, Dropped, drop_parked
from maintenance_defs.databases.partitions.swapping import Converted

__all__ = [
    "Ahead",
    "Blocker",
    "Contents",
    "Conversion",
    "Converted",
    "Deleted",
    "Detached",
    "Dropped",
    "Note",
    "Obstacle",
    "Parked",
    "Partition",
    "PartitionedTable",
    "PlainTable",
    "Reattached",
    "Reference",
    "Removal",
    "abandon",
    "blockers",
    "convert",
    "convert_plan",
    "create_ahead",
    "delete_rows",
    "detach",
    "drop_parked",
    "ensure_ours",
    "find_late_lane",
    "find_parked",
    "open_late_lane",
    "park",
    "preflight",
    "read_partitioned",
    "read_relation",
    "read_table",
    "reattach",
    "repair",
    "row_keys",
    "wait_for_replicas",
    "was_removed",
]
