-- Bulk imports and the requests that they are cut into; see PostgreSQL's for the columns.
CREATE TABLE imports (
    id BLOB PRIMARY KEY,
    owner TEXT NOT NULL,
    item_count INTEGER NOT NULL,
    body BLOB,
    profile TEXT,
    traceparent TEXT,
    state TEXT NOT NULL,
    saga BLOB,
    error TEXT,
    cancel_asked_at INTEGER,
    accepted_at INTEGER NOT NULL,
    finished_at INTEGER
);
CREATE INDEX imports_unattended ON imports (id) WHERE saga IS NULL;
CREATE INDEX imports_open ON imports (id) WHERE state IN ('queued', 'processing');

CREATE TABLE import_parts (
    import_id BLOB NOT NULL,
    part_no INTEGER NOT NULL,
    request_id BLOB NOT NULL,
    dataset_no INTEGER NOT NULL,
    dataset TEXT NOT NULL,
    source TEXT NOT NULL,
    item_count INTEGER NOT NULL,
    state TEXT,
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    codes TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (import_id, part_no)
) WITHOUT ROWID;
CREATE UNIQUE INDEX import_parts_request ON import_parts (request_id);
