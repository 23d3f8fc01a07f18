-- What operators do with dead letters, and the record of it.
ALTER TABLE dead_letters ADD COLUMN consumer_group TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN attempts TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN state TEXT NOT NULL DEFAULT 'dead';
ALTER TABLE dead_letters ADD COLUMN same_reason INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead_letters ADD COLUMN edited BLOB;
ALTER TABLE dead_letters ADD COLUMN replayed_at INTEGER;

CREATE TABLE audit_log (
    id BLOB PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT
) WITHOUT ROWID;
CREATE INDEX audit_log_subject ON audit_log (subject, id);
