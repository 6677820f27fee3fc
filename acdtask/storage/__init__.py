"""Storage: the object store (a folder or S3), files on the web, and their errors."""
