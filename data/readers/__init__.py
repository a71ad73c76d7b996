"""Readers: one per file format; each yields documents."""
