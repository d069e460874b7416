"""The config: its schema, its sources and its checks. Reads files, sends nothing."""
