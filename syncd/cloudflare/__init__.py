"""Speaks HTTP to Cloudflare; no other room does. It knows no mirror, no plan and no state."""
