"""The state directory: the SQLite file with what syncd remembers between passes, and all SQL. Makes no decisions."""
