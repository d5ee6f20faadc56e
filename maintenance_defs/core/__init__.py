"""Pure: declarations, keys, references, times, guards.

Belongs here: what can be computed from its arguments. Not here: I/O, a clock, Dagster.
DuckDB is used as a calculator over Arrow data that the caller hands in.
"""
