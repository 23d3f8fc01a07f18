-- Bulk imports and the requests that they are cut into.
CREATE TABLE imports (
    id uuid PRIMARY KEY,
    owner text NOT NULL,
    item_count integer NOT NULL,
    -- As it came, until it is cut into requests; null from the start when it was cut on arrival.
    body bytea,
    profile text,
    traceparent text,
    -- queued, processing, success, partial, error, dead or cancelled
    state text NOT NULL,
    -- The saga that looks after it, once there is one.
    saga uuid,
    error text,
    cancel_asked_at timestamptz,
    accepted_at timestamptz NOT NULL,
    finished_at timestamptz
) WITH (fillfactor = 85);
CREATE INDEX imports_unattended ON imports (id) WHERE saga IS NULL;
CREATE INDEX imports_open ON imports (id) WHERE state IN ('queued', 'processing');

CREATE TABLE import_parts (
    import_id uuid NOT NULL,
    part_no integer NOT NULL,
    request_id uuid NOT NULL,
    dataset_no integer NOT NULL,
    dataset text NOT NULL,
    source text NOT NULL,
    item_count integer NOT NULL,
    -- The request's last state, once its verdicts are counted.
    state text,
    done integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    -- How often each code was raised: code:count, with spaces between.
    codes text NOT NULL DEFAULT '',
    PRIMARY KEY (import_id, part_no)
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX import_parts_request ON import_parts (request_id);
