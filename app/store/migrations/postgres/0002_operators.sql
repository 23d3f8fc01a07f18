-- What operators do with dead letters, and the record of it. New columns have defaults: a process
-- of the previous version goes on keeping letters.
ALTER TABLE dead_letters
    ADD COLUMN consumer_group text NOT NULL DEFAULT '',
    -- One line an attempt; see kit::Attempt. Bounded by the statement that keeps a letter.
    ADD COLUMN attempts text NOT NULL DEFAULT '',
    -- dead, or replayed = on its way again.
    ADD COLUMN state text NOT NULL DEFAULT 'dead',
    -- Replays in a row that ended in the same class and code.
    ADD COLUMN same_reason integer NOT NULL DEFAULT 0,
    -- What a replay sends in place of the original fields.
    ADD COLUMN edited bytea,
    ADD COLUMN replayed_at timestamptz;

CREATE TABLE audit_log (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    reason text NOT NULL,
    detail text
);
CREATE INDEX audit_log_subject ON audit_log (subject, id);
