"""What people are told: the report and its exports, why a key is judged as it is, and whether all can be reached.

Belongs here: words, tables and files made from artefacts and findings. Not here: new conclusions.
"""
