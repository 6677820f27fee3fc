"""Consolidation jobs of a served cube, with the states and pauses of a Geocube."""
