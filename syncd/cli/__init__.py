"""The command line: parses arguments, runs one command and prints its result. Nothing else imports this room."""
