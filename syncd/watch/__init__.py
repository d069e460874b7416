"""Converts file system events into hints: paths to observe again, without the kind of the change."""
