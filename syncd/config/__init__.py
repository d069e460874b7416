"""The config: its schema, its sources, its checks, and the file that `init` writes. Reads files, sends nothing."""
