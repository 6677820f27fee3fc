"""Per-pixel moments of a reference period."""
