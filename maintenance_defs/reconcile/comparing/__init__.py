"""Keys against keys: the walk over sorted files, the judgement of what is left over, rows without object."""
