-- Roles, and the few functions that every table leans on.
--
-- exchange_owner  owns every table; migrations alone act as it
-- exchange_app    the exchange: INSERT and SELECT; UPDATE of named columns of projections
-- exchange_reader reads what one party may see (row-level security)
-- exchange_sealed reads and erases sealed personal data, and nothing else
-- exchange_pruner deletes old idempotency keys, and nothing else
--
-- None can log in: a login takes one with SET ROLE. Roles belong to the cluster, not to the
-- database, so another database's migration may have made them a moment ago.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'exchange_owner', 'exchange_app', 'exchange_reader', 'exchange_sealed', 'exchange_pruner'
    ]
    LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- made by another migration in between
        END;
        IF NOT EXISTS (
            SELECT FROM pg_auth_members m
            WHERE m.roleid = name::regrole AND m.member = current_user::regrole AND m.set_option
        ) THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', name);
        END IF;
    END LOOP;
END
$$;

GRANT USAGE, CREATE ON SCHEMA public TO exchange_owner;
GRANT USAGE ON SCHEMA public TO exchange_app, exchange_reader, exchange_sealed, exchange_pruner;

SET LOCAL ROLE exchange_owner;

-- The UTC day that an id (UUIDv7) was made on: it names the partition. NULL for any other UUID,
-- which is why every CHECK on it says IS TRUE.
CREATE FUNCTION lead_day(id uuid) RETURNS date
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (uuid_extract_timestamp(id) AT TIME ZONE 'UTC')::date;

-- The party a reader speaks for; NULL (nobody, sees nothing) until it is set.
CREATE FUNCTION reading_party() RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE
RETURN NULLIF(current_setting('exchange.party_id', true), '')::integer;

-- The moves of exchange/core/lifecycle.py; a test compares them.
CREATE FUNCTION is_move(noun text, old_state text, new_state text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (noun, old_state, new_state) IN (
    ('lead', 'received', 'selling'), ('lead', 'received', 'unsold'), ('lead', 'received', 'erased'),
    ('lead', 'selling', 'selling'), ('lead', 'selling', 'sold'), ('lead', 'selling', 'unsold'),
    ('lead', 'selling', 'in_doubt'),
    ('lead', 'in_doubt', 'sold'), ('lead', 'in_doubt', 'unsold'), ('lead', 'in_doubt', 'selling'),
    ('lead', 'sold', 'erased'), ('lead', 'unsold', 'erased'),
    ('attempt', 'reserved', 'posting'),
    ('attempt', 'posting', 'voided'), ('attempt', 'posting', 'rejected'),
    ('attempt', 'posting', 'unknown'), ('attempt', 'posting', 'sold'),
    ('attempt', 'unknown', 'sold'), ('attempt', 'unknown', 'rejected'),
    ('attempt', 'unknown', 'written_off'),
    ('return', 'requested', 'granted'), ('return', 'requested', 'denied'),
    ('return', 'requested', 'referred'), ('return', 'requested', 'lapsed'),
    ('return', 'referred', 'granted'), ('return', 'referred', 'denied'),
    ('return', 'referred', 'lapsed'),
    ('return', 'denied', 'appealed'), ('return', 'appealed', 'granted'),
    ('return', 'appealed', 'denied')
);
