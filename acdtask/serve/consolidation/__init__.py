"""Consolidation as jobs of a server: what is kept of them, their steps, and the threads that do them."""
