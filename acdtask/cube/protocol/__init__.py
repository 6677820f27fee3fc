"""Geocube's protocol: its .proto files, and the modules that the build generates from them (hatch_build.py)."""
