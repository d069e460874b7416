"""The Vectorize target: entries are the vectors of a file's chunks in an index, and their ids prove key and content."""
