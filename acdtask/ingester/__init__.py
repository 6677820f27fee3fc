"""Client of the Geocube ingester's workflow server: post an AOI, follow it, retry, draw it."""
