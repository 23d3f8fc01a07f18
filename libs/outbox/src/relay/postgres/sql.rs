//! How the outbox's file is left behind: by turning two tables, else by truncation.
//!
//! The two tables exchange their names, and the one that nobody looks at any more is emptied
//! afterwards. The exchange touches no file, so its commit need not reach the disk before others go
//! on: whatever is written later cannot get there before it.

use ratebox_db::Sql;

/// Bytes of the table's file; whether the spare table can take its place. It cannot when a user
/// gave one of them what the other one has not, or what is tied to the table and not to its name:
/// grants, columns, indexes, triggers, rules, policies, views, publications. Only an owner renames.
pub(crate) const OUTBOX_FILE: Sql = Sql {
    postgres: "SELECT pg_relation_size('outbox'::regclass), count(*) = 2
            AND NOT EXISTS (SELECT 1 FROM pg_publication)
            AND has_schema_privilege(min(relnamespace), 'CREATE')
            AND count(DISTINCT concat_ws('|', relowner, coalesce(relacl::text, ''), relreplident,
                (SELECT count(*) FROM pg_index WHERE indrelid = c.oid),
                (SELECT string_agg(concat_ws(' ', attname, atttypid, atttypmod, attnotnull, attacl),
                    ',' ORDER BY attnum) FROM pg_attribute
                    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped))) = 1
            AND bool_and(pg_has_role(relowner, 'USAGE') AND relkind = 'r' AND NOT relhastriggers
                AND NOT relhasrules AND NOT relrowsecurity AND NOT relhassubclass
                AND NOT relispartition AND NOT EXISTS (SELECT 1 FROM pg_depend
                    WHERE refclassid = 'pg_class'::regclass AND refobjid = c.oid
                    AND classid NOT IN ('pg_class'::regclass, 'pg_type'::regclass,
                        'pg_attrdef'::regclass, 'pg_constraint'::regclass)))
        FROM pg_class c WHERE oid IN (to_regclass('outbox'), to_regclass('outbox_spare'))",
    sqlite: "SELECT 0, 0",
};

/// Empties the spare table, whose rows were taken over before the tables turned.
pub(super) const EMPTY: &str = "
    BEGIN;
    SET LOCAL lock_timeout = '50ms';
    DO $$ BEGIN
        LOCK TABLE outbox_spare IN ACCESS EXCLUSIVE MODE;
        IF pg_relation_size('outbox_spare'::regclass) > 0 THEN
            TRUNCATE outbox_spare;
        END IF;
    END $$;
    COMMIT;";

/// The spare table, if it is empty, takes the live rows and the place of the other one. Twenty
/// times that goes on only if nobody is in the table; then it waits in line, 50 ms at most.
pub(super) const TURN: &str = "
    BEGIN;
    SET LOCAL lock_timeout = '50ms';
    SET LOCAL synchronous_commit = off;
    DO $$
    DECLARE live int;
    BEGIN
        LOCK TABLE outbox_spare IN ACCESS EXCLUSIVE MODE NOWAIT;
        IF pg_relation_size('outbox_spare'::regclass) > 0 THEN
            RAISE EXCEPTION 'the spare table is not empty';
        END IF;
        FOR try IN 1..21 LOOP
            BEGIN
                IF try <= 20 THEN
                    LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE NOWAIT;
                ELSE
                    LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE;
                END IF;
                -- Another relay may have been quicker.
                EXIT WHEN pg_relation_size('outbox'::regclass) < 1048576;
                INSERT INTO outbox_spare SELECT * FROM outbox LIMIT 1001;
                GET DIAGNOSTICS live = ROW_COUNT;
                IF live > 1000 THEN
                    RAISE EXCEPTION 'more than 1000 rows wait';
                END IF;
                IF try <= 20 THEN
                    LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE NOWAIT;
                ELSE
                    LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE;
                END IF;
                ALTER TABLE outbox RENAME TO outbox_turning;
                ALTER TABLE outbox_spare RENAME TO outbox;
                ALTER TABLE outbox_turning RENAME TO outbox_spare;
                EXIT;
            EXCEPTION WHEN lock_not_available THEN
                IF try > 20 THEN RAISE; END IF;
                PERFORM pg_sleep(0.002);
            END;
        END LOOP;
    END $$;
    COMMIT;";

/// Where the tables cannot turn: the live rows are taken up, the table is truncated, and they are
/// put back. It asks for its locks as [`TURN`] does, and holds them until the disk has it.
pub(super) const TRUNCATE: &str = "
    BEGIN;
    SET LOCAL lock_timeout = '50ms';
    DO $$
    DECLARE live outbox[];
    BEGIN
        FOR try IN 1..21 LOOP
            BEGIN
                IF try <= 20 THEN
                    LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE NOWAIT;
                ELSE
                    LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE;
                END IF;
                EXIT WHEN pg_relation_size('outbox'::regclass) < 1048576;
                live := ARRAY(SELECT o FROM outbox o LIMIT 1001);
                IF cardinality(live) > 1000 THEN
                    RAISE EXCEPTION 'more than 1000 rows wait';
                END IF;
                IF try <= 20 THEN
                    LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE NOWAIT;
                ELSE
                    LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE;
                END IF;
                TRUNCATE outbox;
                INSERT INTO outbox SELECT (row).* FROM unnest(live) AS row;
                EXIT;
            EXCEPTION WHEN lock_not_available THEN
                IF try > 20 THEN RAISE; END IF;
                PERFORM pg_sleep(0.002);
            END;
        END LOOP;
    END $$;
    COMMIT;";
