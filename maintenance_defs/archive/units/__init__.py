"""The life of a unit, one month or span of rows: exported, proven, registered, out of its table, back, expired.

Each step may be repeated, and sees by looking what an earlier attempt has done. Who may take one decides gate.py.
"""
