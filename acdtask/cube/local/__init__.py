"""The embedded cube: COGs, Zarr and an index on a folder or an object store."""
