"""Benchmarks of acd, some in comparison with alternatives."""
