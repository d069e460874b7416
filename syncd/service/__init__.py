"""What keeps mirrors at work: builds them from the config and runs them, once or as a daemon. No sync rules."""
