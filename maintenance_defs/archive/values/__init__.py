"""Large JSON values: the whole goes to a file of its own, a slim one stays in the row.

Belongs here: which values may go, how they are proven, slimmed, expired and given back. Not here: consent, the ledger
and the frame of a plan, which are the same for every archive.
"""

from maintenance_defs.archive.values.acting import ValueDone, carry_out
from maintenance_defs.archive.values.giving import find_column_archive, get_value, restore_value
from maintenance_defs.archive.values.planning import carry_out_unit, read_values, take_values_plan
from maintenance_defs.archive.values.survey import ITEMS, Survey, survey_values

__all__ = [
    "ITEMS", "Survey", "ValueDone", "carry_out", "carry_out_unit", "find_column_archive", "get_value", "read_values",
    "restore_value", "survey_values", "take_values_plan",
]  # fmt: skip
