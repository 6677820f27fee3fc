"""Verify a cube: read every file that it names, and say which are damaged and how to make them again."""
