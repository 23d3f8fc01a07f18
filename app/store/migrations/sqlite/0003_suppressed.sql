-- Duplicates that came again and had no second effect, counted in the transaction that let them
-- pass.
ALTER TABLE stream_consumer_stats ADD COLUMN messages_suppressed INTEGER NOT NULL DEFAULT 0;
