"""The tables. Times are seconds since 1970; vectors are the bytes of little-endian float32."""

SCHEMA = """
-- A deleted index keeps its row until its name is used again: the service answers otherwise than for a name never used.
CREATE TABLE IF NOT EXISTS vz_indexes (
    number INTEGER PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, description TEXT,
    dimensions INTEGER NOT NULL, metric TEXT NOT NULL, preset TEXT, created_at REAL NOT NULL, deleted_at REAL,
    processed_mutation TEXT, processed_at REAL,
    UNIQUE (account, name)
);
-- indexed: what the metadata indexes hold of it, as {property: value}; those that there were when it was written.
CREATE TABLE IF NOT EXISTS vz_vectors (
    number INTEGER PRIMARY KEY, of_index INTEGER NOT NULL, id TEXT NOT NULL, namespace TEXT, metadata TEXT,
    indexed TEXT NOT NULL, data BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS vz_vectors_id ON vz_vectors (of_index, id);
CREATE INDEX IF NOT EXISTS vz_vectors_number ON vz_vectors (of_index, number);
CREATE TABLE IF NOT EXISTS vz_properties (
    of_index INTEGER NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, PRIMARY KEY (of_index, name)
) WITHOUT ROWID;

-- What was accepted and is not seen yet, in the order in which it came.
CREATE TABLE IF NOT EXISTS vz_mutations (
    number INTEGER PRIMARY KEY AUTOINCREMENT, of_index INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
    due REAL NOT NULL, property TEXT, type TEXT
);
CREATE INDEX IF NOT EXISTS vz_mutations_index ON vz_mutations (of_index, number);
CREATE TABLE IF NOT EXISTS vz_pending (
    mutation INTEGER NOT NULL, place INTEGER NOT NULL, id TEXT NOT NULL, namespace TEXT, metadata TEXT, data BLOB,
    PRIMARY KEY (mutation, place)
);

-- What a listing of more than one page shows, taken with its first page.
CREATE TABLE IF NOT EXISTS vz_snapshots (
    number INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, of_index INTEGER NOT NULL, total INTEGER NOT NULL,
    expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS vz_snapshot_ids (
    snapshot INTEGER NOT NULL, place INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (snapshot, place)
) WITHOUT ROWID;
"""
