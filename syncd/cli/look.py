"""status, ls, explain, search."""
