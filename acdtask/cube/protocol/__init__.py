"""Geocube's protocol: its .proto files, and the modules that the build makes of them (hatch_build.py)."""
