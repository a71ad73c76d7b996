"""The corpora of the demos, read from pinned wheels."""
