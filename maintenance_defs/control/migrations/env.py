"""Alembic calls this; the connection, its lock and its transaction belong to the caller."""

from alembic import context

from maintenance_defs.control.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="maintenance_version",
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()
