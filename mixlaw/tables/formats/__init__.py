"""File formats and layouts of other people's tables: files are read and their columns get the standard names."""
