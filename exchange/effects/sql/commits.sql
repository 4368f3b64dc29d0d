-- name: commit
-- A batch of units, one per lead, in one statement and so in one transaction: $1 holds the rows of
-- all of them, table by table; their leads were made from day $2 to day $3, so that other days'
-- partitions are never opened. Answers the leads of which nothing was written, and why.
--
-- First everything that may hold a unit back, locked in one order by every writer (consumers, cap
-- windows, leads, attempts, each sorted) so that two writers never wait for each other in a circle;
-- then `held_back`, the leads of which nothing is written, and why; then the writing of all others.
-- Where one write must come before another, it reads the other's result. Rows come sorted.
--
-- On trust (see `commits/document.py`) nothing is looked at first and nothing held back: what is not
-- as the batch has it is found in the writing, and raises.
--
-- Postgres sets up every part of a statement each time, used or not, and that is what a commit costs
-- most. So a batch is sent only the parts it has a use for: what follows `-- for` a word is left out
-- unless the batch has that word (see `commits/document.py`), up to the next such line or
-- `-- always`; indented, it is a piece of the part that it stands in.
WITH
-- for claims
sold_meanwhile AS MATERIALIZED (
    SELECT lead_id FROM claim_persons($1::jsonb->'claims', $2::date - 1, $3::date + 1) AS lead_id
),
-- for lead_moves
lead_move AS MATERIALIZED (
    SELECT *
    FROM jsonb_to_recordset($1::jsonb->'lead_moves') AS m (
        lead_id uuid, old text, new text, custody_seq integer, custody_head text, boot_id text,
        events integer
    )
),
-- for attempt_moves
move AS MATERIALIZED (
    SELECT *
    FROM jsonb_to_recordset($1::jsonb->'attempt_moves') AS m (
        attempt_id uuid, lead_id uuid, old text, new text, buyer_ref text, buyer_reason text,
        resolved_by text, next_check_at timestamptz
    )
),
-- for attempts
new_attempt AS MATERIALIZED (
    SELECT * FROM jsonb_populate_recordset(NULL::attempt, $1::jsonb->'attempts')
),
-- for takes
take AS MATERIALIZED (
    SELECT a.lead_id, a.attempt_id, a.buyer_id, w->>0 AS win, (w->>1)::bigint AS most,
           (w->>2)::bigint AS amount
    FROM new_attempt a CROSS JOIN jsonb_array_elements(a.windows) AS w
    WHERE a.cap_mode = 'strict'
),
-- for ends
given_back AS MATERIALIZED (
    SELECT m.lead_id, c.buyer_id, c.win, c.amount
    FROM cap_claim c JOIN move m USING (attempt_id)
    WHERE c.attempt_id = ANY (ARRAY(SELECT attempt_id FROM move WHERE new IN ('voided', 'rejected', 'written_off')))
      AND c.state = 'held'
),
-- for takes
touched AS MATERIALIZED (
    SELECT buyer_id, win FROM take
    -- for ends
    UNION ALL SELECT buyer_id, win FROM given_back
    -- always
),
window_now AS MATERIALIZED (
    SELECT c.buyer_id, c.win, c.used
    FROM cap_window c
    WHERE c.buyer_id = ANY (ARRAY(SELECT buyer_id FROM touched))
      AND c.win = ANY (ARRAY(SELECT win FROM touched))
    -- for claims
      AND (SELECT count(*) FROM sold_meanwhile) IS NOT NULL
    -- always
    ORDER BY c.buyer_id, c.win
    FOR NO KEY UPDATE OF c
),
-- for lead_moves_checked
lead_now AS MATERIALIZED (
    SELECT l.lead_id, l.state, l.custody_seq
    FROM lead l
    WHERE l.lead_id = ANY (ARRAY(SELECT lead_id FROM lead_move)) AND l.day BETWEEN $2 AND $3
    -- for claims
      AND (SELECT count(*) FROM sold_meanwhile) IS NOT NULL
    -- for takes
      AND (SELECT count(*) FROM window_now) IS NOT NULL
    -- always
    ORDER BY l.lead_id
    FOR NO KEY UPDATE OF l
),
-- for attempt_moves_checked
attempt_now AS MATERIALIZED (
    SELECT a.attempt_id, a.state
    FROM attempt a
    WHERE a.lead_id = ANY (ARRAY(SELECT lead_id FROM move)) AND a.day BETWEEN $2 AND $3
      AND a.attempt_id = ANY (ARRAY(SELECT attempt_id FROM move))
    -- for claims
      AND (SELECT count(*) FROM sold_meanwhile) IS NOT NULL
    -- for takes
      AND (SELECT count(*) FROM window_now) IS NOT NULL
    -- for lead_moves
      AND (SELECT count(*) FROM lead_now) IS NOT NULL
    -- always
    ORDER BY a.lead_id, a.attempt_id
    FOR NO KEY UPDATE OF a
),
-- for checked
held_back AS MATERIALIZED (
    SELECT NULL::uuid AS lead_id, NULL AS kind WHERE $2::date > $3::date  -- never: the list begins
    -- for lead_moves_checked
    UNION ALL
    SELECT m.lead_id, 'stale' AS kind
    FROM lead_move m LEFT JOIN lead_now l USING (lead_id)
    WHERE l.lead_id IS NULL OR l.state <> ALL (string_to_array(m.old, ','))
       OR l.custody_seq <> m.custody_seq - m.events
    -- for attempt_moves_checked
    UNION ALL
    SELECT m.lead_id, 'stale'
    FROM move m LEFT JOIN attempt_now a USING (attempt_id)
    WHERE a.attempt_id IS NULL OR a.state <> m.old
    -- for idem_checked
    UNION ALL
    SELECT n.lead_id, 'conflict'
    FROM jsonb_to_recordset($1::jsonb->'idem') AS n (seller_id integer, key text, lead_id uuid)
    WHERE (SELECT true FROM idem i WHERE i.seller_id = n.seller_id AND i.key = n.key LIMIT 1)
    -- for claims
    UNION ALL
    SELECT lead_id, 'duplicate' FROM sold_meanwhile
    -- for takes
    UNION ALL
    -- A window without room for all who ask: who gets it is decided one by one, by the fence.
    SELECT t.lead_id, 'short'
    FROM (
        SELECT t.lead_id, t.most,
               coalesce(w.used, 0) + sum(t.amount) OVER (PARTITION BY t.buyer_id, t.win) AS wanted
        FROM take t LEFT JOIN window_now w USING (buyer_id, win)
    ) AS t
    WHERE t.wanted > t.most
    -- always
),
-- the writing ---------------------------------------------------------------------------------------
-- for lead_moves
lead_moved AS (
    UPDATE lead l
    SET state = m.new, custody_seq = m.custody_seq, custody_head = decode(m.custody_head, 'hex'),
        boot_id = coalesce(m.boot_id, l.boot_id), updated_at = now()
    FROM lead_move m
    WHERE m.lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back)) AND l.lead_id = m.lead_id
      AND l.lead_id = ANY (ARRAY(SELECT lead_id FROM lead_move)) AND l.day BETWEEN $2 AND $3
      AND l.state = ANY (string_to_array(m.old, ',')) AND l.custody_seq = m.custody_seq - m.events
    RETURNING l.lead_id
),
-- for attempt_moves
moved AS MATERIALIZED (
    UPDATE attempt a
    SET state = m.new,
        buyer_ref = coalesce(m.buyer_ref, a.buyer_ref),
        buyer_reason = coalesce(m.buyer_reason, a.buyer_reason),
        resolved_by = coalesce(m.resolved_by, a.resolved_by),
        next_check_at = m.next_check_at,
        booked_on = CASE WHEN m.new = 'sold' THEN (now() AT TIME ZONE 'UTC')::date END,
        updated_at = now()
    FROM move m
    WHERE m.lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
      AND a.lead_id = ANY (ARRAY(SELECT lead_id FROM move)) AND a.day BETWEEN $2 AND $3
      AND a.lead_id = m.lead_id AND a.attempt_id = m.attempt_id AND a.state = m.old
    -- for lead_moves
      AND (SELECT count(*) FROM lead_moved) IS NOT NULL
    -- always
    RETURNING a.attempt_id, a.lead_id, a.day, a.state
),
-- for takes
-- A window is written once: what is taken less what is given back.
change AS MATERIALIZED (
    SELECT buyer_id, win, sum(amount) AS amount
    FROM (
        SELECT lead_id, buyer_id, win, amount FROM take
        -- for ends
        UNION ALL SELECT lead_id, buyer_id, win, -amount FROM given_back
        -- always
    ) AS part
    WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
    GROUP BY buyer_id, win
),
window_changed AS (
    UPDATE cap_window c
    SET used = c.used + d.amount, updated_at = now()
    FROM change d
    WHERE c.buyer_id = d.buyer_id AND c.win = d.win
      AND c.buyer_id = ANY (ARRAY(SELECT buyer_id FROM window_now))
      AND c.win = ANY (ARRAY(SELECT win FROM window_now))
),
window_made AS (
    INSERT INTO cap_window (buyer_id, win, used)
    SELECT buyer_id, win, amount FROM change
    WHERE (buyer_id, win) NOT IN (SELECT buyer_id, win FROM window_now)
    ORDER BY buyer_id, win
),
claimed AS (
    INSERT INTO cap_claim (buyer_id, win, attempt_id, lead_id, amount)
    SELECT buyer_id, win, attempt_id, lead_id, amount
    FROM take WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
),
-- for settles
claim_settled AS (
    UPDATE cap_claim c
    SET state = CASE m.state WHEN 'sold' THEN 'used' ELSE 'released' END, at = now()
    FROM moved m
    WHERE c.attempt_id = m.attempt_id AND c.state = 'held'
      AND c.attempt_id = ANY (ARRAY(
              SELECT attempt_id FROM moved WHERE state IN ('sold', 'voided', 'rejected', 'written_off')))
),
-- Slots pass from an attempt that ended to the one that follows, or become free. One that was written
-- off keeps its slots and its caps: the buyer may have the lead, so it is never sold again.
-- for attempts
wanted_slot AS MATERIALIZED (
    SELECT a.lead_id, lead_day(a.lead_id) AS day, slot, a.attempt_id
    FROM new_attempt a CROSS JOIN unnest(a.slots) AS slot
    WHERE a.lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
),
-- for resales
-- Returned leads that are offered again: their slots pass to the new attempt (a trigger sees to it
-- that every sale of them was returned in full).
resold AS MATERIALIZED (
    INSERT INTO resale (
        resale_id, lead_id, day, return_id, leg, released, rule, book_version, by, why, at
    )
    SELECT resale_id, lead_id, lead_day(lead_id), return_id, leg, released, rule, book_version, by,
           why, at
    FROM jsonb_populate_recordset(NULL::resale, $1::jsonb->'resales')
    WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
    RETURNING lead_id
),
-- for passes
slot_passed AS MATERIALIZED (
    UPDATE sale_slot s
    SET attempt_id = (SELECT w.attempt_id FROM wanted_slot w
                      WHERE w.lead_id = s.lead_id AND w.slot = s.slot)
    WHERE s.lead_id = ANY (ARRAY(SELECT lead_id FROM moved UNION SELECT lead_id FROM wanted_slot))
      AND s.day BETWEEN $2 AND $3
      AND (s.attempt_id IN (SELECT attempt_id FROM moved WHERE state IN ('voided', 'rejected'))
    -- for resales
           OR s.lead_id IN (SELECT lead_id FROM resold)
    -- always
           OR s.attempt_id IS NULL
              AND (s.lead_id, s.slot) IN (SELECT lead_id, slot FROM wanted_slot))
    RETURNING s.lead_id, s.slot
),
-- for attempts
slot_taken AS (
    INSERT INTO sale_slot (lead_id, day, slot, attempt_id)
    SELECT lead_id, day, slot, attempt_id FROM wanted_slot
    -- for passes
    WHERE (lead_id, slot) NOT IN (SELECT lead_id, slot FROM slot_passed)
    -- always
),
-- for idem
idem_made AS (
    INSERT INTO idem (seller_id, key, fingerprint, lead_id, state, reply, done_at)
    SELECT seller_id, key, fingerprint, lead_id, state, reply,
           CASE WHEN state = 'done' THEN now() END
    FROM jsonb_populate_recordset(NULL::idem, $1::jsonb->'idem')
    WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
),
-- for idem_done
done AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb->'idem_done') AS d (
        lead_id uuid, seller_id integer, key text, reply jsonb
    )
    WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
),
idem_finished AS (
    UPDATE idem i
    SET state = 'done', reply = d.reply, done_at = now()
    FROM done d
    WHERE i.seller_id = d.seller_id AND i.key = d.key AND i.state = 'running'
      AND i.lead_id = ANY (ARRAY(SELECT lead_id FROM done))
),
-- for leads_made
lead_made AS (
    INSERT INTO lead (
        lead_id, day, seller_id, source_id, sub_id, vertical_id, external_id, state, mode,
        max_sales, direct, promised_payout_micros, min_payout_micros, floor_micros, currency,
        consent_kind, custody_seq, custody_head, book_version, mask_id, offer, boot_id, test,
        received_at
    )
    SELECT lead_id, lead_day(lead_id), seller_id, source_id, sub_id, vertical_id, external_id, state,
           mode, max_sales, direct, promised_payout_micros, min_payout_micros, floor_micros,
           currency, consent_kind, custody_seq, custody_head, book_version, mask_id, offer, boot_id,
           test, received_at
    FROM jsonb_populate_recordset(NULL::lead, $1::jsonb->'leads_made')
    WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
),
-- for privates
private_made AS (
    INSERT INTO lead_private (lead_id, day, key_epoch, wrapped_dek, sealed)
    SELECT lead_id, lead_day(lead_id), key_epoch, wrapped_dek, sealed
    FROM jsonb_populate_recordset(NULL::lead_private, $1::jsonb->'privates')
    WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
),
-- for persons
persons_made AS (
    INSERT INTO person_key (lead_id, day, vertical_id, kind, pepper_epoch, hmac)
    SELECT lead_id, lead_day(lead_id), vertical_id, kind, pepper_epoch, hmac
    FROM jsonb_populate_recordset(NULL::person_key, $1::jsonb->'persons')
    WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
    ON CONFLICT DO NOTHING
),
-- for attempts
attempts_made AS (
    INSERT INTO attempt (
        attempt_id, lead_id, day, seller_id, buyer_id, contract_id, contract_version, rank, leg,
        price_micros, payout_micros, fee_micros, currency, buyer_bid_ref, bid_expires_at,
        deadline_at, next_check_at, boot_id, cap_mode, cap_sq, windows, slots, test, created_at
    )
    SELECT attempt_id, lead_id, lead_day(lead_id), seller_id, buyer_id, contract_id,
           contract_version, rank, leg, price_micros, payout_micros, fee_micros, currency,
           buyer_bid_ref, bid_expires_at, deadline_at, next_check_at, boot_id, cap_mode, cap_sq,
           windows, slots, test, created_at
    FROM new_attempt
    WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
    -- for attempt_moves
      AND (SELECT count(*) FROM moved) IS NOT NULL
    -- always
),
-- for events
events_made AS (
    INSERT INTO attempt_event (attempt_id, lead_id, day, state, at, detail)
    SELECT attempt_id, lead_id, lead_day(lead_id), state, at, detail
    FROM jsonb_populate_recordset(NULL::attempt_event, $1::jsonb->'events')
    WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
),
-- for custody
custody_made AS (
    INSERT INTO custody_event (lead_id, day, seq, kind, bytes, prev, hash, at)
    SELECT lead_id, lead_day(lead_id), seq, kind, bytes, prev, hash, at
    FROM jsonb_populate_recordset(NULL::custody_event, $1::jsonb->'custody')
    WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
),
-- for transfers
transfers_made AS (
    INSERT INTO transfer (
        transfer_id, lead_id, day, attempt_id, code, debit_account, credit_account, amount_micros,
        currency, reverses, part, at
    )
    SELECT transfer_id, lead_id, lead_day(lead_id), attempt_id, code, debit_account, credit_account,
           amount_micros, currency, reverses, part, at
    FROM jsonb_populate_recordset(NULL::transfer, $1::jsonb->'transfers')
    WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
    ON CONFLICT (lead_id, day, transfer_id) DO NOTHING
),
-- for outbox
outbox_made AS (
    INSERT INTO outbox (outbox_id, lead_id, day, party_id, kind, body, at)
    SELECT outbox_id, lead_id, lead_day(lead_id), party_id, kind, body, at
    FROM jsonb_populate_recordset(NULL::outbox, $1::jsonb->'outbox')
    WHERE lead_id <> ALL (ARRAY(SELECT lead_id FROM held_back))
),
-- for trusted
-- What is not as the batch has it. Anything: no number, which undoes the whole batch.
missing AS (
    SELECT 0 AS number WHERE $2::date <= $3::date  -- always: the list begins
    -- for lead_moves
    UNION ALL SELECT (SELECT count(*) FROM lead_move) - (SELECT count(*) FROM lead_moved)
    -- for attempt_moves
    UNION ALL SELECT (SELECT count(*) FROM move) - (SELECT count(*) FROM moved)
    -- for claims
    UNION ALL SELECT count(*) FROM sold_meanwhile
    -- always
),
-- always
answer AS (
    -- for checked
    SELECT lead_id::text, max(kind) AS kind FROM held_back GROUP BY lead_id  -- stale before short
    -- for trusted
    SELECT NULL AS lead_id, NULL AS kind FROM missing
    HAVING (CASE sum(number) WHEN 0 THEN '0'
            ELSE sum(number) || ' rows were written elsewhere: once more, with checks' END)::integer <> 0
    -- always
)
SELECT lead_id, kind FROM answer

-- name: persons_claimed
-- The fence, before its first step: consumers, ours until the transaction ends.
SELECT count(*) FROM claim_persons($1, current_date, current_date)

-- name: windows_exist
-- The fence, first step: every window that is asked for has a row.
INSERT INTO cap_window (buyer_id, win)
SELECT DISTINCT buyer_id, win FROM unnest($1::integer[], $2::text[]) AS asked (buyer_id, win)
ORDER BY buyer_id, win
ON CONFLICT (buyer_id, win) DO NOTHING

-- name: windows_locked
-- The fence, second step: the windows as they stand, ours until the transaction ends.
SELECT c.buyer_id, c.win, c.used
FROM cap_window c
JOIN (SELECT DISTINCT * FROM unnest($1::integer[], $2::text[]) AS a (buyer_id, win)) AS asked
    USING (buyer_id, win)
ORDER BY c.buyer_id, c.win
FOR NO KEY UPDATE OF c

-- name: accounts_found
-- The ids of the accounts that transfers name.
SELECT id, party_id, kind, currency
FROM account
JOIN unnest($1::integer[], $2::text[], $3::text[]) AS named (party_id, kind, currency)
    USING (party_id, kind, currency)

-- name: accounts_exist
-- The accounts that transfers name.
INSERT INTO account (party_id, kind, currency)
SELECT DISTINCT party_id, kind, currency
FROM unnest($1::integer[], $2::text[], $3::text[]) AS named (party_id, kind, currency)
ORDER BY party_id, kind, currency
ON CONFLICT (party_id, kind, currency) DO NOTHING

-- name: committed
-- Which of these units are in the database: known by the hash of their last custody event, which no
-- other unit can have; a unit without one by its marker.
SELECT u.lead_id::text
FROM jsonb_to_recordset($1) AS u (lead_id uuid, seq integer, hash bytea, marker uuid, state text)
WHERE CASE
    WHEN u.hash IS NOT NULL THEN EXISTS (
        SELECT FROM custody_event c
        WHERE c.lead_id = u.lead_id AND c.day = lead_day(u.lead_id) AND c.seq = u.seq
          AND c.hash = u.hash)
    ELSE EXISTS (
        SELECT FROM attempt_event e
        WHERE e.lead_id = u.lead_id AND e.day = lead_day(u.lead_id) AND e.attempt_id = u.marker
          AND e.state = u.state)
      OR EXISTS (
        SELECT FROM lead l
        WHERE l.lead_id = u.marker AND l.day = lead_day(u.marker) AND l.state = u.state)
END

-- name: whoami
-- The server process behind this connection: it can be told from a later one with the same number.
SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()

-- name: end_session
-- A session we lost may still be at work: end it, and wait until it is gone.
SELECT pg_terminate_backend(pid, $3::bigint) FROM pg_stat_activity
WHERE pid = $1 AND backend_start = $2

-- name: session_exists
-- Whether the session we lost is still there.
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2)
