"""Measures syncd on real files and real processes with the stand-in: `python -m bench`."""
