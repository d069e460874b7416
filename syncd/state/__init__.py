"""The state file: what is remembered between two passes. A cache: delete it, and the next pass rebuilds it."""
