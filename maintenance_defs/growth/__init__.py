"""How fast stores and tables grow: measured from what is on record, beside what was declared to be expected.

Belongs here: rates between two complete listings or measurements, what was newly written, when a limit is reached.
Not here: listing a store (`reconcile/`), how a database says its sizes (`databases/sizes.py`), words (`reporting/`).
Nothing is ever computed from an incomplete listing: it is unknown, never 0 (K14).
"""
