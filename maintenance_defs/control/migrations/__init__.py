"""The control database's history, run by `control.database` when it opens one."""
