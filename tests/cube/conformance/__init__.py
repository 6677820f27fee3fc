"""One set of tests for every room of the cube: local, `acdtask serve`, and a real Geocube server."""
