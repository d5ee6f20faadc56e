"""Retention: what may go is planned, agreed to, re-verified, done and recorded; all of it can be undone first.

Belongs here: choosing, plans, the gate, acts and their undoing. Not here: what may be declared (core/policy.py),
how a store or a database is changed (their acting doors), who agreed to what (control/retention). A plan
changes nothing, and nothing after it knows a dry run. Every destructive path goes through `gate.py`.
"""
