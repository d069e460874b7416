"""The AI Search target: entries are uploaded items of an instance, and their metadata carries checksum and owner."""
