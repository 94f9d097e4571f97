"""Trident: the commands, one file each, and what they stand on. Imports nothing, so `--help` is fast."""

__version__ = "0.1.0"
