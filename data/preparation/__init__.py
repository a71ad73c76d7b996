"""From sources to a prepared folder: read, clean, split, tokenise, publish."""
