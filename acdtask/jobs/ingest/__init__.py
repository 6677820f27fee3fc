"""The job ingest: checks every value of the rasters, then writes COGs and indexes them."""
