"""From file system events to hints: where to look, never what happened."""
