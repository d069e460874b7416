"""The mirrored folder: the walk, and the reading of files. No other room opens a mirrored file."""
