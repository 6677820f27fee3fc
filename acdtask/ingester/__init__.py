"""Client of the Geocube ingester's workflow server: post an AOI, see what became of it, wait, retry, draw it."""
