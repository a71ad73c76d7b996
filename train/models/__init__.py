"""One file per model family over shared layers."""
