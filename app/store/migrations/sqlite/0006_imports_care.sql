-- Requests of imports that died: a replay may give them a verdict later.
CREATE INDEX import_parts_dead ON import_parts (import_id) WHERE state = 'dead';
