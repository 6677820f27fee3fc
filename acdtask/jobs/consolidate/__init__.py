"""Rearrange records into time-major cells."""
