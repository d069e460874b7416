"""The Workers KV target: entries are values of a namespace, and their metadata carries checksum and owner."""
