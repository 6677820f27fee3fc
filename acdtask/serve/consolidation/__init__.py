"""Consolidation jobs of a server: their stored events, steps and worker threads."""
