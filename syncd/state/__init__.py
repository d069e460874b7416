"""The state directory: the SQLite file that keeps the state between passes, and all SQL. Makes no decisions."""
