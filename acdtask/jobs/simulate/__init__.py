"""Simulation of coherence scenes with known events, from speckle."""
