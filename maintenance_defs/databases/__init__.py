"""The doors to source tables: read-only, one consistent snapshot a run.

Belongs here: connections, dialects, streaming, evidence. Not here: what a row means.
"""
