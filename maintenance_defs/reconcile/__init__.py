"""Observe and compare: inventory, references, orphan diff, and what people are told about them.

Belongs here: everything that only reads. Not here: anything that deletes; Dagster.
"""
