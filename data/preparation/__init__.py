"""Builds the prepared folder: read, clean, split, tokenise, write."""
