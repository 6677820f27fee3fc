"""Bring rasters into the cube: check every value, then write COGs and index them."""
