"""Per-pixel moments over a reference period."""
