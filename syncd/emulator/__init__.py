"""A local stand-in for the Cloudflare API: loopback only, one SQLite file.

This package is a second, independent reading of Cloudflare's documentation. It imports nothing from the rest of syncd,
so a mistake there is not repeated here.
"""
