"""The tables. Times are seconds since 1970."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS kv_namespaces (
    number INTEGER PRIMARY KEY, account TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL, jurisdiction TEXT,
    UNIQUE (account, id), UNIQUE (account, title)
);
-- One row for each state a key was in; the present one has no valid_to. Older rows serve a lagging listing only and
-- have lost their data. Keys are UTF-8, so that their order is the API's and a NUL in one is like any other byte.
CREATE TABLE IF NOT EXISTS kv_entries (
    version INTEGER PRIMARY KEY, namespace INTEGER NOT NULL, key BLOB NOT NULL, metadata TEXT, expiration INTEGER,
    valid_from REAL NOT NULL, valid_to REAL, data BLOB
);
CREATE INDEX IF NOT EXISTS kv_entries_key ON kv_entries (namespace, key, valid_to);
CREATE INDEX IF NOT EXISTS kv_entries_past ON kv_entries (valid_to) WHERE valid_to IS NOT NULL;
CREATE INDEX IF NOT EXISTS kv_entries_expiring ON kv_entries (expiration) WHERE expiration IS NOT NULL;

-- How often a bulk request named a key; only counted while some of them are to fail.
CREATE TABLE IF NOT EXISTS kv_attempts (
    namespace INTEGER NOT NULL, key BLOB NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (namespace, key)
) WITHOUT ROWID;
"""
