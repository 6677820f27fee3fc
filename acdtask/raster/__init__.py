"""Arrays with geography: grids, tiling, warping, masks and GeoTIFFs."""
