"""AI Search: one file is one item of an instance."""
