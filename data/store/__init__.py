"""The prepared folder: token shards, images, and the manifest with their hashes."""
