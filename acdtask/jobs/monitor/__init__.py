"""Comparison of new images with the baseline: z, change masks, patches."""
