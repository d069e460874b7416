"""The embedded stand-in for the Cloudflare API: a second, independent reading of its documentation.

Loopback only, one SQLite file. It imports nothing from the rest of syncd, so a mistake there is not repeated here.
"""
