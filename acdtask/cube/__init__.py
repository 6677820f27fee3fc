"""Cubes: records and datasets, with their pixels."""
