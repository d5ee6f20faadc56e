"""Our own state: the control database and immutable artefact files.

Belongs here: what a run leaves behind for the next one. Not here: what it concludes from it.
"""
