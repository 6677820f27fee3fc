"""The job consolidate: rearranges records into time-major arrays per cell."""
