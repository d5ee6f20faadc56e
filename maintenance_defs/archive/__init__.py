"""The archive: rows that are no longer hot, as verified Parquet, and back.

plans/ says what may leave; gate.py lets it leave once that was agreed to; units/ is how a month leaves and comes back;
rows/ are its files and their proof; values/ large columns; reading/ the answers; iceberg/ the table for others;
watching/ whether all is well. Not here: how PostgreSQL detaches a partition (`databases/`), or what objects may go
(`retention/`).
"""
