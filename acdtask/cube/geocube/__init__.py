"""A Geocube server as a cube: the client."""
