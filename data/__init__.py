"""Domains -> prepared shards -> one exact, resumable, weighted stream of packed sequences."""
