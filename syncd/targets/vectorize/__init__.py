"""The Vectorize target: a folder as vectors. `target` is its face; the rest is cut by what it has to know."""
