-- Duplicates that came again and had no second effect, counted in the transaction that let them
-- pass: unlike a metric, the figure survives its process and agrees with what was committed. A
-- process of the previous version goes on counting without it.
ALTER TABLE stream_consumer_stats
    ADD COLUMN messages_suppressed bigint NOT NULL DEFAULT 0;
