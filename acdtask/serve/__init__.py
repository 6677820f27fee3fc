"""Server of a local cube over Geocube's API."""
