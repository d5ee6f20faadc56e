"""Observe and compare: `inventory`, `references`, `orphan_diff`, and `run` for the three in a row.

Belongs here: everything that only reads. Not here: anything that deletes; what people are told; Dagster.
"""
