"""The tables. Times are seconds since 1970."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS ai_namespaces (
    account TEXT NOT NULL, name TEXT NOT NULL, description TEXT, created_at REAL NOT NULL,
    PRIMARY KEY (account, name)
);
CREATE TABLE IF NOT EXISTS ai_instances (
    number INTEGER PRIMARY KEY, account TEXT NOT NULL, namespace TEXT NOT NULL, id TEXT NOT NULL,
    config TEXT NOT NULL, created_at REAL NOT NULL, modified_at REAL NOT NULL,
    UNIQUE (account, namespace, id)
);
-- One row for each state an item was in; the present one has no valid_to. Older rows serve a lagging listing only.
CREATE TABLE IF NOT EXISTS ai_items (
    version INTEGER PRIMARY KEY, id TEXT NOT NULL, instance INTEGER NOT NULL, key TEXT NOT NULL, source TEXT NOT NULL,
    checksum TEXT NOT NULL, size INTEGER, metadata TEXT NOT NULL, filterable TEXT NOT NULL,
    chunks INTEGER NOT NULL, error TEXT, created_at REAL NOT NULL, modified_at REAL NOT NULL,
    queued_at REAL NOT NULL, started_at REAL NOT NULL, done_at REAL NOT NULL,
    valid_from REAL NOT NULL, valid_to REAL
);
CREATE UNIQUE INDEX IF NOT EXISTS ai_items_key ON ai_items (instance, key, source) WHERE valid_to IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS ai_items_id ON ai_items (id) WHERE valid_to IS NULL;
CREATE INDEX IF NOT EXISTS ai_items_modified ON ai_items (instance, valid_to, modified_at DESC, id);
CREATE INDEX IF NOT EXISTS ai_items_source ON ai_items (instance, valid_to, source, modified_at DESC, id);
CREATE INDEX IF NOT EXISTS ai_items_past ON ai_items (valid_to) WHERE valid_to IS NOT NULL;

CREATE TABLE IF NOT EXISTS ai_contents (item TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ai_chunks (
    number INTEGER PRIMARY KEY, item TEXT NOT NULL, position INTEGER NOT NULL,
    start_byte INTEGER NOT NULL, end_byte INTEGER NOT NULL, text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS ai_chunks_item ON ai_chunks (item, position);
CREATE VIRTUAL TABLE IF NOT EXISTS ai_words USING fts5 (
    text, content = 'ai_chunks', content_rowid = 'number', tokenize = 'porter unicode61'
);
CREATE TRIGGER IF NOT EXISTS ai_chunks_in AFTER INSERT ON ai_chunks BEGIN
    INSERT INTO ai_words (rowid, text) VALUES (new.number, new.text);
END;
CREATE TRIGGER IF NOT EXISTS ai_chunks_out AFTER DELETE ON ai_chunks BEGIN
    INSERT INTO ai_words (ai_words, rowid, text) VALUES ('delete', old.number, old.text);
END;
-- Written ahead at the start of an indexing; a line shows once its time has come.
CREATE TABLE IF NOT EXISTS ai_logs (
    number INTEGER PRIMARY KEY, item TEXT NOT NULL, at REAL NOT NULL, action TEXT NOT NULL, message TEXT NOT NULL,
    chunks INTEGER, milliseconds INTEGER, error TEXT
);
CREATE INDEX IF NOT EXISTS ai_logs_item ON ai_logs (item, number);
"""
