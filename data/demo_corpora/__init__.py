"""The corpora of the quick start, read from pinned wheels."""
