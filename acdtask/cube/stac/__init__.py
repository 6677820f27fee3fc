"""STAC: items and collections that acd writes, and those that others wrote."""
