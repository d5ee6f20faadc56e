"""Rows to Parquet and back: what each type becomes, digests, files written, proven, written again, loaded.

Belongs here: everything about values and bytes. Not here: when a month leaves, or who agreed to it.
"""
