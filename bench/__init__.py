"""What syncd promises in numbers, measured on real files, real processes and the stand-in: `python -m bench`."""
