"""The doors to objects: listing, HEAD, probing. One small interface, one contract suite.

Belongs here: protocols of stores and their quirks. Not here: what a key means.
"""
