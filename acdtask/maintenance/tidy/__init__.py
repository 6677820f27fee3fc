"""Remove what nothing in a cube names any more."""
