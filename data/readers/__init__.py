"""Readers: files of any supported format become documents."""
