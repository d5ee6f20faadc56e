"""The archive: rows that are no longer hot, as verified Parquet, and back.

Belongs here: units and their life, proof, expiry, reading. Not here: how PostgreSQL detaches a partition
(`databases/`), or what objects may go (`retention/`).
"""
