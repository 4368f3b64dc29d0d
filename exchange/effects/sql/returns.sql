-- Returns of sales: what is known of a sale, what may still change about it, and the one statement
-- that writes a decision.

-- name: sale
-- A buyer's ($2) sale by its id or its lead's ($1), with the terms it was made on: the contract by the
-- attempt's version, all else by the market its lead was auctioned in, then. An attempt is made on its lead's
-- day, or just after midnight. bought_before: another lead of the consumer, in this vertical, within
-- $3 days. listed: it stood on the list that the buyer had uploaded when it was posted the lead;
-- has_list: that list had persons of a kind this lead is known by.
SELECT a.attempt_id::text, a.lead_id::text, a.seller_id, a.buyer_id, a.contract_id, a.price_micros,
       a.payout_micros, a.fee_micros, a.currency, a.test, e.at AS sold_at,
       c.doc AS contract, b.zone AS buyer_zone, s.clawback, s.zone AS seller_zone, v.fields,
       coalesce(coalesce(o.payout, s.payout)->>'net_of_returns', 'false')::boolean AS net_of_returns,
       l.offer->'fields' AS pinged, l.sub_id, seller.key AS seller, source.key AS source,
       r.bytes AS received,
       EXISTS (
           -- OFFSET 0: one step after the other. By a guess it would go through days of attempts.
           SELECT FROM (
               SELECT * FROM person_key WHERE lead_id = a.lead_id AND day = a.day OFFSET 0
           ) p
           CROSS JOIN LATERAL (
               SELECT * FROM person_key q
               WHERE q.hmac = p.hmac AND q.kind = p.kind AND q.vertical_id = p.vertical_id
                 AND q.day BETWEEN a.day - $3::integer AND a.day AND q.lead_id <> a.lead_id
               OFFSET 0
           ) q
           CROSS JOIN LATERAL (
               SELECT FROM attempt o
               WHERE o.lead_id = q.lead_id AND o.day = q.day AND o.buyer_id = a.buyer_id
                 AND o.state = 'sold' AND NOT o.test AND o.created_at < a.created_at
               OFFSET 0
           ) o
       ) AS bought_before,
       EXISTS (
           SELECT FROM person_key p JOIN customer_key k
               ON k.buyer_id = a.buyer_id AND k.kind = p.kind AND k.pepper_epoch = p.pepper_epoch
                  AND k.hmac = p.hmac
           WHERE p.lead_id = a.lead_id AND p.day = a.day
             AND k.since < a.created_at AND coalesce(k.until > a.created_at, true)
       ) AS listed,
       EXISTS (
           SELECT FROM person_key p JOIN customer_list k
               ON k.buyer_id = a.buyer_id AND k.pepper_epoch = p.pepper_epoch
                  AND p.kind = ANY (k.kinds) AND k.at < a.created_at
           WHERE p.lead_id = a.lead_id AND p.day = a.day AND NOT EXISTS (
               SELECT FROM customer_list w
               WHERE w.buyer_id = a.buyer_id AND w.way = 'whole' AND w.at > k.at
                 AND w.at < a.created_at
           )
       ) AS has_list
FROM (
    SELECT * FROM attempt
    WHERE attempt_id = $1 AND day BETWEEN lead_day($1) - 1 AND lead_day($1)
    UNION ALL
    SELECT * FROM attempt
    WHERE lead_id = $1 AND day = lead_day($1) AND buyer_id = $2
) a
JOIN lead l ON l.lead_id = a.lead_id AND l.day = a.day
JOIN attempt_event e ON e.lead_id = a.lead_id AND e.day = a.day AND e.attempt_id = a.attempt_id
                    AND e.state = 'sold'
CROSS JOIN LATERAL (SELECT market_of_sale(a.lead_id, a.leg, l.book_version) AS version) m
JOIN contract_version c ON c.contract_id = a.contract_id AND c.version = a.contract_version
LEFT JOIN LATERAL (
    SELECT doc->>'time_zone' AS zone FROM buyer_version
    WHERE buyer_id = a.buyer_id AND market_version <= m.version ORDER BY version DESC LIMIT 1
) b ON true
LEFT JOIN LATERAL (
    SELECT doc->'clawback' AS clawback, doc->>'time_zone' AS zone, doc->'payout' AS payout
    FROM seller_version
    WHERE seller_id = a.seller_id AND market_version <= m.version ORDER BY version DESC LIMIT 1
) s ON true
LEFT JOIN LATERAL (
    SELECT doc->'payout' AS payout FROM source_version
    WHERE source_id = l.source_id AND market_version <= m.version ORDER BY version DESC LIMIT 1
) o ON true
LEFT JOIN LATERAL (
    SELECT doc->'fields' AS fields FROM vertical_version
    WHERE vertical_id = l.vertical_id AND market_version <= m.version
    ORDER BY version DESC LIMIT 1
) v ON true
LEFT JOIN seller ON seller.id = a.seller_id
LEFT JOIN source ON source.id = l.source_id
LEFT JOIN custody_event r ON r.lead_id = a.lead_id AND r.day = a.day AND r.seq = 1
WHERE a.buyer_id = $2 AND a.state = 'sold'

-- name: lock
-- One decision at a time in a contract and cycle: everybody else sees what it came to.
SELECT pg_advisory_xact_lock(hashtextextended('exchange.return.' || $2, $1))

-- name: room
-- What may have changed since the sale ($1 lead, $2 attempt): what was credited, the end of its chain,
-- the other cases (not $6) of the contract's ($3) cycle ($4) that hold room, in all, for reason $5 and
-- on trust; every case of this sale; the buyer's case of the key $7.
SELECT a.credited_micros, l.custody_seq, encode(l.custody_head, 'hex') AS custody_head,
       held.returns, held.of_reason, held.on_trust,
       (SELECT coalesce(jsonb_agg(c ORDER BY c.return_id), '[]') FROM return_case c
        WHERE c.lead_id = a.lead_id AND c.day = a.day AND c.attempt_id = a.attempt_id) AS cases,
       (SELECT to_jsonb(c) FROM return_case c
        WHERE c.buyer_id = a.buyer_id AND c.idem_key = $7) AS keyed
FROM attempt a
JOIN lead l ON l.lead_id = a.lead_id AND l.day = a.day
CROSS JOIN LATERAL (
    SELECT count(*) AS returns, count(*) FILTER (WHERE c.reason = $5) AS of_reason,
           count(*) FILTER (WHERE c.rule = 'trusted') AS on_trust
    FROM return_case c
    WHERE c.contract_id = $3 AND c.cycle = $4 AND NOT c.test
      AND c.state IN ('requested', 'referred', 'appealed', 'granted')
      AND c.return_id IS DISTINCT FROM $6 AND c.rule IS DISTINCT FROM 'incident_credited'
) held
WHERE a.lead_id = $1 AND a.day = lead_day($1) AND a.attempt_id = $2

-- name: sales
-- How many sales a contract ($2, of buyer $1) made from $3 until before $4. One booked late, after a
-- doubt, was begun up to $5 days before, and its lead pinged shortly before that.
SELECT count(*)
FROM attempt a
JOIN attempt_event e ON e.lead_id = a.lead_id AND e.day = a.day AND e.attempt_id = a.attempt_id
                    AND e.state = 'sold'
WHERE a.buyer_id = $1 AND a.contract_id = $2 AND a.state = 'sold' AND NOT a.test
  AND a.created_at >= $3::timestamptz - make_interval(days => $5::integer) AND a.created_at < $4
  AND a.day BETWEEN ($3::timestamptz AT TIME ZONE 'UTC')::date - $5::integer - 1
                AND ($4::timestamptz AT TIME ZONE 'UTC')::date
  AND e.at >= $3 AND e.at < $4

-- name: write
-- A decision, all of it ($1 as one document; $2 the lead, $3 the sale): the case made or moved, the
-- credit, the end of the chain, the event, the transfers, the notices, the audit. What is found
-- otherwise than the decision saw it is not counted; then the caller undoes everything.
WITH given AS (
    SELECT * FROM jsonb_to_record($1) AS g (
        made jsonb, moved jsonb, was text, credited_micros bigint, credit_micros bigint,
        custody_seq integer, custody jsonb, transfers jsonb, outbox jsonb, audit jsonb
    )
),
made AS (
    INSERT INTO return_case (
        return_id, lead_id, day, attempt_id, seller_id, buyer_id, contract_id, state, reason,
        evidence, wanting, rule, credit_micros, clawback_micros, replaces, currency, test, cycle,
        idem_key, appeals, requested_at, due_at, decided_at, decided_by, booked_on
    )
    SELECT c.return_id, c.lead_id, lead_day($2), c.attempt_id, c.seller_id, c.buyer_id,
           c.contract_id, c.state, c.reason, c.evidence, c.wanting, c.rule, c.credit_micros,
           c.clawback_micros, c.replaces, c.currency, false, c.cycle, c.idem_key, c.appeals,
           c.requested_at, c.due_at, c.decided_at, c.decided_by,
           CASE c.state WHEN 'granted' THEN (now() AT TIME ZONE 'UTC')::date END
    FROM given CROSS JOIN LATERAL jsonb_populate_record(NULL::return_case, given.made) c
    WHERE jsonb_typeof(given.made) = 'object'
    RETURNING 1
),
moved AS (
    UPDATE return_case c
    SET state = m.state, evidence = m.evidence, wanting = m.wanting, rule = m.rule,
        credit_micros = m.credit_micros, clawback_micros = m.clawback_micros,
        replaces = m.replaces, appeals = m.appeals, due_at = m.due_at, decided_at = m.decided_at,
        decided_by = m.decided_by,
        booked_on = CASE m.state WHEN 'granted' THEN (now() AT TIME ZONE 'UTC')::date END
    FROM given CROSS JOIN LATERAL jsonb_populate_record(NULL::return_case, given.moved) m
    WHERE jsonb_typeof(given.moved) = 'object' AND c.lead_id = $2 AND c.day = lead_day($2)
      AND c.return_id = m.return_id AND c.state = given.was
    RETURNING 1
),
credited AS (
    UPDATE attempt a
    SET credited_micros = given.credited_micros + given.credit_micros, updated_at = now()
    FROM given
    WHERE a.lead_id = $2 AND a.day = lead_day($2) AND a.attempt_id = $3
      AND a.credited_micros = given.credited_micros
    RETURNING 1
),
chained AS (
    UPDATE lead l
    SET custody_seq = given.custody_seq + 1,
        custody_head = decode(substr(given.custody->>'hash', 3), 'hex'), updated_at = now()
    FROM given
    WHERE l.lead_id = $2 AND l.day = lead_day($2) AND l.custody_seq = given.custody_seq
    RETURNING 1
),
event AS (
    INSERT INTO custody_event (lead_id, day, seq, kind, bytes, prev, hash, at)
    SELECT c.lead_id, lead_day($2), c.seq, c.kind, c.bytes, c.prev, c.hash, c.at
    FROM given CROSS JOIN LATERAL jsonb_populate_record(NULL::custody_event, given.custody) c
),
booked AS (
    INSERT INTO transfer (
        transfer_id, lead_id, day, attempt_id, code, debit_account, credit_account, amount_micros,
        currency, reverses, part, at
    )
    SELECT t.transfer_id, t.lead_id, lead_day($2), t.attempt_id, t.code, t.debit_account,
           t.credit_account, t.amount_micros, t.currency, t.reverses, t.part, t.at
    FROM given CROSS JOIN LATERAL jsonb_populate_recordset(NULL::transfer, given.transfers) t
    ON CONFLICT (lead_id, day, transfer_id) DO NOTHING
),
told AS (
    INSERT INTO outbox (outbox_id, lead_id, day, party_id, kind, body, at)
    SELECT o.outbox_id, o.lead_id, lead_day($2), o.party_id, o.kind, o.body, o.at
    FROM given CROSS JOIN LATERAL jsonb_populate_recordset(NULL::outbox, given.outbox) o
),
audited AS (
    INSERT INTO audit (by, action, subject, detail)
    SELECT u.by, u.action, u.subject, u.detail
    FROM given CROSS JOIN LATERAL jsonb_populate_record(NULL::audit, given.audit) u
    WHERE jsonb_typeof(given.audit) = 'object'
)
SELECT (SELECT count(*) FROM made) + (SELECT count(*) FROM moved) AS cases,
       (SELECT count(*) FROM credited) AS credited, (SELECT count(*) FROM chained) AS chained

-- name: made_good
-- An incident's ($1) sale ($2 lead, $3 attempt) that a return ($4) makes good; none when it was already.
UPDATE incident_sale
SET state = CASE WHEN $5::bigint > 0 THEN 'credited' ELSE 'recovered' END, return_id = $4,
    credit_micros = $5, clawback_micros = $6, booked_at = $7
WHERE incident_id = $1 AND lead_id = $2 AND attempt_id = $3 AND state = 'due'
RETURNING true

-- name: held
-- Whether the lease of a job is still ours; it stays so until the transaction ends.
SELECT true FROM job_lease WHERE job = $1 AND epoch = $2 FOR SHARE

-- name: accounts
-- The accounts that transfers name; made where there is none yet.
INSERT INTO account (party_id, kind, currency)
SELECT DISTINCT party_id, kind, currency
FROM unnest($1::integer[], $2::text[], $3::text[]) AS named (party_id, kind, currency)
ORDER BY party_id, kind, currency
ON CONFLICT (party_id, kind, currency) DO NOTHING

-- name: accounts_found
-- Their ids.
SELECT id, party_id, kind, currency
FROM account
JOIN unnest($1::integer[], $2::text[], $3::text[]) AS named (party_id, kind, currency)
    USING (party_id, kind, currency)

-- name: case
-- One case; of a buyer's ($2), or anybody's where that is null.
SELECT to_jsonb(c) AS doc FROM return_case c
WHERE c.return_id = $1 AND ($2::integer IS NULL OR c.buyer_id = $2)

-- name: listing
-- Cases in these states ($1), the newest first, before a case ($2); at most $3.
SELECT to_jsonb(c) AS doc, a.price_micros, a.payout_micros, e.at AS sold_at
FROM (
    SELECT c.* FROM unnest($1::text[]) AS wanted (state)
    CROSS JOIN LATERAL (
        SELECT * FROM return_case r
        WHERE r.state = wanted.state
          AND r.return_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        ORDER BY r.return_id DESC LIMIT $3
    ) c
    ORDER BY c.return_id DESC LIMIT $3
) c
JOIN attempt a ON a.lead_id = c.lead_id AND a.day = c.day AND a.attempt_id = c.attempt_id
LEFT JOIN attempt_event e ON e.lead_id = c.lead_id AND e.day = c.day
                         AND e.attempt_id = c.attempt_id AND e.state = 'sold'
ORDER BY c.return_id DESC

-- name: listing_of_buyer
-- A buyer's ($4), likewise.
SELECT to_jsonb(c) AS doc, a.price_micros, a.payout_micros, e.at AS sold_at
FROM (
    SELECT * FROM return_case r
    WHERE r.buyer_id = $4 AND r.state = ANY ($1::text[])
      AND r.return_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    ORDER BY r.return_id DESC LIMIT $3
) c
JOIN attempt a ON a.lead_id = c.lead_id AND a.day = c.day AND a.attempt_id = c.attempt_id
LEFT JOIN attempt_event e ON e.lead_id = c.lead_id AND e.day = c.day
                         AND e.attempt_id = c.attempt_id AND e.state = 'sold'
ORDER BY c.return_id DESC

-- name: listed
-- One case, as a listing has it.
SELECT to_jsonb(c) AS doc, a.price_micros, a.payout_micros, e.at AS sold_at
FROM return_case c
JOIN attempt a ON a.lead_id = c.lead_id AND a.day = c.day AND a.attempt_id = c.attempt_id
LEFT JOIN attempt_event e ON e.lead_id = c.lead_id AND e.day = c.day
                         AND e.attempt_id = c.attempt_id AND e.state = 'sold'
WHERE c.return_id = $1

-- name: due
-- Referred cases that nobody decided in time.
SELECT to_jsonb(c) AS doc FROM return_case c
WHERE c.state = 'referred' AND c.due_at <= $1
ORDER BY c.due_at
LIMIT $2
