"""Keeps a local folder in step, one way, with a Cloudflare target."""

__version__ = "0.1.0"
