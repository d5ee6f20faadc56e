"""A data-maintenance platform: declared systems, reconciled, retained and archived on Dagster."""

__version__ = "0.1.0"
