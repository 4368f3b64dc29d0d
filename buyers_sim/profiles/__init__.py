"""Profiles that come with the simulator, as TOML files."""
