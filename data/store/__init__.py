"""Format of the prepared folder: token shards, images, and the manifest with their sha256."""
