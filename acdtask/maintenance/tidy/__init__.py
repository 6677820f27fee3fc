"""Tidy: removal of what nothing in a cube references any more."""
