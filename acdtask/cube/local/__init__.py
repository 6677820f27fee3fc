"""The local cube: COGs, Zarr arrays and an index in a folder or an object store."""
