"""The local cube served over Geocube's API."""
