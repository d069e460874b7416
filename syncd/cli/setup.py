"""init, check."""
