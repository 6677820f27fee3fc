"""Verification of a cube: reads every file that it names, and reports damaged ones and how to recreate them."""
