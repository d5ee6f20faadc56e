"""From the rows of one snapshot to the keys they name: selects, checks, queries, undeclared columns."""
