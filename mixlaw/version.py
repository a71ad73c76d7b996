"""The version, which files of laws, runs and reports state."""

__version__ = "0.2.0"
