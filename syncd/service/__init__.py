"""The program at work: builds mirrors from the config and runs them, once or as a daemon. No sync rules."""
