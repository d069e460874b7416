"""The mirrored folder: walking it and reading its files. No other room opens a mirrored file."""
