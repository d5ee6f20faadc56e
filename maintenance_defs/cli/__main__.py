"""`python -m maintenance_defs.cli`."""

from maintenance_defs.cli import main

main(prog_name="maintain")
