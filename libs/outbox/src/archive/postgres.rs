//! Days of sent events on PostgreSQL.

/// Makes today's partition and the next two, unless rows of that day are in the DEFAULT one
/// already, and drops those that ended `days` ago. Who does not own the tables, or may make none,
/// deletes by row. By the database's clock; whoever holds a lock is waited for 2 s, and the next
/// round is as good.
pub(super) fn tidy(days: u64) -> String {
    format!(
        "BEGIN;
        SET LOCAL lock_timeout = '2s';
        SELECT pg_advisory_xact_lock(7261746565);
        DO $$
        DECLARE
            today date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
            first timestamptz; next timestamptz; name text;
        BEGIN
            IF NOT (SELECT pg_has_role(relowner, 'USAGE')
                    AND has_schema_privilege(relnamespace, 'CREATE')
                FROM pg_class WHERE oid = 'outbox_sent'::regclass)
            THEN
                DELETE FROM outbox_sent
                    WHERE sent_at < (today - {days})::timestamp AT TIME ZONE 'UTC';
                RETURN;
            END IF;
            FOR n IN 0..2 LOOP
                name := 'outbox_sent_' || to_char(today + n, 'YYYYMMDD');
                first := (today + n)::timestamp AT TIME ZONE 'UTC';
                next := first + interval '24 hours';
                IF to_regclass(name) IS NULL AND NOT EXISTS (SELECT 1 FROM outbox_sent_default
                    WHERE sent_at >= first AND sent_at < next)
                THEN EXECUTE format('CREATE TABLE %I PARTITION OF outbox_sent
                    FOR VALUES FROM (%L) TO (%L) WITH (toast_tuple_target = 8160)',
                    name, first, next);
                END IF;
            END LOOP;
            FOR name IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'outbox_sent'::regclass AND c.relname ~ '^outbox_sent_[0-9]{{8}}$'
                    AND to_date(right(c.relname, 8), 'YYYYMMDD') < today - {days}
            LOOP
                EXECUTE format('DROP TABLE %I', name);
            END LOOP;
            DELETE FROM outbox_sent_default
                WHERE sent_at < (today - {days})::timestamp AT TIME ZONE 'UTC';
        END $$;
        COMMIT;"
    )
}
