"""Bytes under keys: the store on a folder or an object store, files on the web, and their errors."""
