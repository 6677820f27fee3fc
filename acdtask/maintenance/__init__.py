"""Maintenance of a cube: tidy removes what nothing names, verify checks every file."""
