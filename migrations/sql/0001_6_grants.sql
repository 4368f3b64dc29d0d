-- Who may do what. Nothing is granted on partitions: they are reached through their parent, where
-- row-level security stands. TRUNCATE, and DELETE but for erasure, are granted to nobody.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lead_day(uuid), reading_party(), is_move(text, text, text)
    TO exchange_app, exchange_reader, exchange_sealed;
GRANT EXECUTE ON FUNCTION ensure_partitions(date, integer), claim_persons(jsonb, date, date)
    TO exchange_app;

-- The app: insert and select everywhere but in lead_private, which it can only add to; it reads the
-- wrapped key of a record, which opens what else of the lead is sealed, but never the record.
GRANT SELECT, INSERT ON
    party, account, api_key, secret, key_epoch, market_version,
    vertical, seller, source, buyer, contract,
    vertical_version, seller_version, source_version, buyer_version, contract_version,
    switch, audit, boot, job_lease, cap_generation, closed_mask, period,
    ping, lead, person_key, attempt, sale_slot, attempt_event, custody_event, custody_leaf, outbox,
    transfer, return_case, cap_window, cap_claim, idem
    TO exchange_app;
GRANT SELECT ON partition_stray TO exchange_app, exchange_reader;
GRANT INSERT, SELECT (lead_id, day, key_epoch, wrapped_dek, erased_at)
    ON lead_private TO exchange_app;

GRANT UPDATE (name) ON party TO exchange_app;
GRANT UPDATE (expires_at, revoked_at, last_used_at) ON api_key TO exchange_app;
GRANT UPDATE (key_epoch, wrapped_dek, sealed, set_at, set_by) ON secret TO exchange_app;
GRANT UPDATE (retired_at) ON key_epoch TO exchange_app;
GRANT UPDATE (paused, by, why, at) ON switch TO exchange_app;
GRANT UPDATE (beat_at, ended_at) ON boot TO exchange_app;
GRANT UPDATE (boot_id, epoch, taken_at, expires_at) ON job_lease TO exchange_app;
GRANT UPDATE (
    generation, sq, run_id, replication_id, due_version, counted_version, changed_at
) ON cap_generation TO exchange_app;
GRANT UPDATE (closed_at, closed_by) ON period TO exchange_app;
GRANT UPDATE (state, custody_seq, custody_head, boot_id, updated_at) ON lead TO exchange_app;
GRANT UPDATE (
    state, buyer_ref, buyer_reason, resolved_by, next_check_at, checks, boot_id, credited_micros,
    booked_on, updated_at
) ON attempt TO exchange_app;
GRANT UPDATE (attempt_id) ON sale_slot TO exchange_app;
GRANT UPDATE (state, tries, next_try_at, sent_at, last_result) ON outbox TO exchange_app;
GRANT UPDATE (
    state, evidence, wanting, rule, credit_micros, clawback_micros, replaces, appeals, due_at,
    decided_at, decided_by, booked_on
) ON return_case TO exchange_app;
GRANT UPDATE (used, carried, updated_at) ON cap_window TO exchange_app;
GRANT UPDATE (amount, state, at) ON cap_claim TO exchange_app;
GRANT UPDATE (state, reply, done_at) ON idem TO exchange_app;

-- Sealed: opens (reconcile's re-post), wraps anew (rotation) and erases.
GRANT SELECT, DELETE, UPDATE (key_epoch, wrapped_dek, sealed, erased_at)
    ON lead_private TO exchange_sealed;
GRANT SELECT, DELETE ON person_key TO exchange_sealed;

-- The pruner: forgets keys. What it deletes it has to be able to find. Both see who holds a lease.
GRANT SELECT (seller_id, key, lead_id, state, done_at), DELETE ON idem TO exchange_pruner;
GRANT SELECT (job, epoch) ON job_lease TO exchange_sealed, exchange_pruner;

-- The reader: rows of the party in exchange.party_id; 1 (the house) sees all, unset sees nothing.
-- Rows that name both sides of the house's margin (transfers, custody bytes) are the house's alone:
-- parties are shown them through statements and proofs.
DO $$
DECLARE
    visible record;
BEGIN
    FOR visible IN SELECT * FROM (VALUES
        ('party', 'id = reading_party()'),
        ('account', 'party_id = reading_party()'),
        ('vertical', 'true'),
        ('vertical_version', 'true'),
        ('seller', 'id = reading_party()'),
        ('seller_version', 'seller_id = reading_party()'),
        ('source', 'seller_id = reading_party()'),
        ('source_version', 'source_id IN (SELECT s.id FROM source s WHERE s.seller_id = reading_party())'),
        ('buyer', 'id = reading_party()'),
        ('buyer_version', 'buyer_id = reading_party()'),
        ('contract', 'buyer_id = reading_party()'),
        ('contract_version', 'contract_id IN (SELECT c.id FROM contract c WHERE c.buyer_id = reading_party())'),
        ('market_version', 'false'), ('closed_mask', 'false'), ('audit', 'false'),
        ('ping', 'seller_id = reading_party()'),
        ('lead', 'seller_id = reading_party()'),
        ('attempt', 'reading_party() IN (seller_id, buyer_id)'),
        ('attempt_event', 'false'), ('custody_event', 'false'), ('transfer', 'false'),
        ('custody_leaf', 'true'),
        ('outbox', 'party_id = reading_party()'),
        ('return_case', 'reading_party() IN (seller_id, buyer_id)'),
        ('cap_window', 'buyer_id = reading_party()'),
        ('cap_claim', 'buyer_id = reading_party()'),
        ('idem', 'seller_id = reading_party()'),
        ('switch', 'false'), ('boot', 'false'), ('job_lease', 'false'),
        ('cap_generation', 'buyer_id = reading_party()'),
        ('period', 'true')
    ) AS v (tab, rule) LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', visible.tab);
        EXECUTE format('CREATE POLICY app_sees_all ON %I TO exchange_app USING (true) WITH CHECK (true)',
                       visible.tab);
        EXECUTE format('CREATE POLICY party_sees_its_own ON %I FOR SELECT TO exchange_reader
                        USING (reading_party() = 1 OR (reading_party() IS NOT NULL AND (%s)))',
                       visible.tab, visible.rule);
        EXECUTE format('GRANT SELECT ON %I TO exchange_reader', visible.tab);
    END LOOP;
END
$$;

CREATE POLICY pruner_forgets ON idem TO exchange_pruner USING (true);
CREATE POLICY holder_is_seen ON job_lease FOR SELECT TO exchange_sealed, exchange_pruner USING (true);

RESET ROLE;
