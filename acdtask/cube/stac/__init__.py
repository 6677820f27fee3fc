"""STAC: writing items and collections, and reading those of others."""
