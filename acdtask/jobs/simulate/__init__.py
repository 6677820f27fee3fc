"""Scenes with known events: coherence from speckle."""
