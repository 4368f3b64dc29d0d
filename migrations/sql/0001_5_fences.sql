-- Fences that hold even against our own mistakes: what only grows, what is never deleted, which way
-- states move, when a sale slot is free again. They bind the owner too; only DROP and DETACH of an
-- old partition (retention) pass them.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: its rows are kept', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE FUNCTION refuse_wrong_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT is_move(TG_ARGV[0], OLD.state, NEW.state) THEN
        RAISE EXCEPTION 'a % does not move from % to %', TG_ARGV[0], OLD.state, NEW.state
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION refuse_taking_a_live_slot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM attempt a
        WHERE a.lead_id = OLD.lead_id AND a.day = OLD.day AND a.attempt_id = OLD.attempt_id
          AND a.state IN ('posting', 'unknown', 'sold')
    ) THEN
        RAISE EXCEPTION 'sale slot % of lead % belongs to a live attempt', OLD.slot, OLD.lead_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;

-- Whose consumer was sold since, or is being sold, as another lead: the claims that fail. Each
-- consumer is locked until the transaction ends, in one order for all writers; only then this looks,
-- and, being volatile, with a view of its own: what another writer committed while this one waited is
-- seen, though the statement that calls began before. The days: what was committed before the caller
-- looked for duplicates itself need not be looked for again.
CREATE FUNCTION claim_persons(claims jsonb, from_day date, to_day date) RETURNS SETOF uuid
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    consumer bigint;
BEGIN
    FOR consumer IN
        SELECT DISTINCT hashtextextended(c.hmac, c.vertical_id)
        FROM jsonb_to_recordset(claims) AS c (vertical_id integer, hmac text)
        ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock(consumer);
    END LOOP;
    RETURN QUERY
        SELECT c.lead_id
        FROM jsonb_to_recordset(claims) AS c (
            lead_id uuid, vertical_id integer, hmac bytea, since timestamptz
        )
        WHERE (
            SELECT true
            FROM person_key p JOIN lead l ON l.lead_id = p.lead_id AND l.day = p.day
            WHERE p.hmac = c.hmac AND p.vertical_id = c.vertical_id
              AND p.day BETWEEN from_day AND to_day AND p.lead_id <> c.lead_id
              AND l.day BETWEEN from_day AND to_day AND l.received_at > c.since
              AND l.state IN ('sold', 'in_doubt', 'selling') AND NOT l.test
            LIMIT 1
        );
END
$$;

-- Facts: insert only.
DO $$
DECLARE
    fact text;
BEGIN
    FOREACH fact IN ARRAY ARRAY[
        'transfer', 'custody_event', 'custody_leaf', 'attempt_event', 'ping', 'audit', 'closed_mask',
        'market_version', 'vertical_version', 'seller_version', 'source_version', 'buyer_version',
        'contract_version', 'account'
    ] LOOP
        EXECUTE format('CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE ON %I
                        FOR EACH ROW EXECUTE FUNCTION refuse_change()', fact);
    END LOOP;
END
$$;

-- Projections: they change, but are never deleted. lead_private and person_key may be.
DO $$
DECLARE
    projection text;
BEGIN
    FOREACH projection IN ARRAY ARRAY[
        'lead', 'attempt', 'sale_slot', 'outbox', 'return_case', 'cap_window', 'cap_claim',
        'party', 'vertical', 'seller', 'source', 'buyer', 'contract', 'api_key', 'key_epoch',
        'cap_generation', 'period'
    ] LOOP
        EXECUTE format('CREATE TRIGGER never_deleted BEFORE DELETE ON %I
                        FOR EACH ROW EXECUTE FUNCTION refuse_change()', projection);
    END LOOP;
END
$$;

-- A key is forgotten once it is answered and a retry is out of the question; the house's own limit
-- (idem_kept_days) is no shorter.
CREATE FUNCTION refuse_forgetting_early() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'done' OR OLD.done_at > now() - interval '3 days' THEN
        RAISE EXCEPTION 'an idempotency key is kept until three days after its answer'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER kept_for_retries BEFORE DELETE ON idem
    FOR EACH ROW EXECUTE FUNCTION refuse_forgetting_early();

CREATE TRIGGER moves_along BEFORE UPDATE OF state ON lead
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION refuse_wrong_move('lead');
CREATE TRIGGER moves_along BEFORE UPDATE OF state ON attempt
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION refuse_wrong_move('attempt');
CREATE TRIGGER moves_along BEFORE UPDATE OF state ON return_case
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION refuse_wrong_move('return');
CREATE TRIGGER live_slot_stays BEFORE UPDATE OF attempt_id ON sale_slot
    FOR EACH ROW WHEN (OLD.attempt_id IS NOT NULL)
    EXECUTE FUNCTION refuse_taking_a_live_slot();

-- Partitions. A TRUNCATE of a partition does not fire its parent's trigger, so each gets its own.
-- Made apart and attached: that blocks neither readers nor writers of the parent (lock_timeout: the
-- wait for the DEFAULT partition is short or given up, and the next run tries again).
-- A day that already has rows in DEFAULT stays there and is counted by partition_stray.

CREATE FUNCTION add_partition(parent text, day date) RETURNS boolean LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    part text := parent || '_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF to_regclass(quote_ident(part)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   parent, part, day, day + 1);
    EXECUTE format('CREATE TRIGGER never_truncated BEFORE TRUNCATE ON %I
                    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', part);
    RETURN true;
EXCEPTION WHEN check_violation THEN
    RAISE WARNING '% has rows of % in its DEFAULT partition; they stay there', parent, day;
    RETURN false;
END
$$;

CREATE FUNCTION ensure_partitions(from_day date, days integer) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = public, pg_temp
SET lock_timeout = '3s' AS $$
DECLARE
    parent text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('exchange.ensure_partitions'));
    FOR parent IN
        SELECT c.relname FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
        WHERE c.relnamespace = 'public'::regnamespace ORDER BY c.relname
    LOOP
        FOR ahead IN 0 .. days - 1 LOOP
            made := made + add_partition(parent, from_day + ahead)::integer;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

DO $$
DECLARE
    parent text;
    kept text;
BEGIN
    FOR parent IN
        SELECT c.relname FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
        WHERE c.relnamespace = 'public'::regnamespace
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', parent || '_default', parent);
    END LOOP;
    FOR kept IN
        SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
          AND relowner = 'exchange_owner'::regrole
    LOOP
        EXECUTE format('CREATE TRIGGER never_truncated BEFORE TRUNCATE ON %I
                        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', kept);
    END LOOP;
END
$$;

-- Yesterday too: a lead minted just before midnight commits just after.
SELECT ensure_partitions((now() AT TIME ZONE 'UTC')::date - 1, 9);

-- The alarm: anything but zero rows means that partitions were not made in time.
CREATE VIEW partition_stray AS
    SELECT 'ping' AS parent, count(*) AS strays FROM ping_default
    UNION ALL SELECT 'lead', count(*) FROM lead_default
    UNION ALL SELECT 'lead_private', count(*) FROM lead_private_default
    UNION ALL SELECT 'person_key', count(*) FROM person_key_default
    UNION ALL SELECT 'attempt', count(*) FROM attempt_default
    UNION ALL SELECT 'sale_slot', count(*) FROM sale_slot_default
    UNION ALL SELECT 'attempt_event', count(*) FROM attempt_event_default
    UNION ALL SELECT 'custody_event', count(*) FROM custody_event_default
    UNION ALL SELECT 'outbox', count(*) FROM outbox_default
    UNION ALL SELECT 'transfer', count(*) FROM transfer_default;
