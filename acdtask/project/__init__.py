"""A project: acd.toml, its first version, and watching what it lists."""
