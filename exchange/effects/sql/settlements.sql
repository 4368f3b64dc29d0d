-- What sellers' tiers come to: the month's sales by the terms they were made on, and the parts booked.

-- name: tiered
-- Sellers that have, or had, tiers of their own or at a source, and the zone of their newest terms.
SELECT s.id, s.key, coalesce(v.doc->>'time_zone', 'UTC') AS zone
FROM seller s
JOIN LATERAL (
    SELECT doc FROM seller_version WHERE seller_id = s.id ORDER BY version DESC LIMIT 1
) v ON true
WHERE s.id IN (
    SELECT seller_id FROM seller_version WHERE doc->'payout' ? 'tiers'
    UNION
    SELECT o.seller_id FROM source_version w JOIN source o ON o.id = w.source_id
    WHERE w.doc->'payout' ? 'tiers'
)
ORDER BY s.id

-- name: seller_versions
-- The terms of these sellers ($1), each from a market version on.
SELECT seller_id, market_version, doc FROM seller_version
WHERE seller_id = ANY ($1) ORDER BY seller_id, version

-- name: source_versions
-- The terms of their sources, likewise.
SELECT v.source_id, v.market_version, v.doc
FROM source_version v JOIN source s ON s.id = v.source_id
WHERE s.seller_id = ANY ($1) ORDER BY v.source_id, v.version

-- name: sales
-- What sellers ($1) sold from $2 until before $3 (of each its own month), alike ones together, with
-- the market they were made in. One booked late was begun up to $4 days before. A sale whose lead was
-- replaced counts as returned.
SELECT a.seller_id, a.currency, l.source_id,
       market_of_sale(a.lead_id, a.leg, l.book_version) AS book_version, a.price_micros, a.payout_micros,
       CASE WHEN EXISTS (
           SELECT FROM return_case r
           WHERE r.lead_id = a.lead_id AND r.day = a.day AND r.attempt_id = a.attempt_id
             AND r.state = 'granted' AND r.replaces
       ) THEN a.price_micros ELSE a.credited_micros END AS credited_micros,
       count(*) AS count
FROM unnest($1::integer[], $2::timestamptz[], $3::timestamptz[]) AS m (seller_id, since, until)
JOIN attempt a ON a.seller_id = m.seller_id
JOIN attempt_event e ON e.lead_id = a.lead_id AND e.day = a.day AND e.attempt_id = a.attempt_id
                    AND e.state = 'sold' AND e.at >= m.since AND e.at < m.until
JOIN lead l ON l.lead_id = a.lead_id AND l.day = a.day
WHERE a.state = 'sold' AND NOT a.test
  AND a.day BETWEEN (SELECT min(s) FROM unnest($2::timestamptz[]) AS s)::date - $4::integer
                AND (SELECT max(s) FROM unnest($3::timestamptz[]) AS s)::date + 1
GROUP BY 1, 2, 3, 4, 5, 6, 7

-- name: lock
-- One settlement at a time.
SELECT pg_advisory_xact_lock(hashtext('exchange.terms'))

-- name: booked
-- What was booked of a month ($2) for these sellers before, and how many parts.
SELECT seller_id, currency, min(zone) AS zone, count(*) AS parts,
       sum(booked_micros)::bigint AS booked_micros
FROM terms_settlement
WHERE seller_id = ANY ($1) AND month = $2
GROUP BY seller_id, currency

-- name: write
-- One part and its transfer, on accounts that are there.
WITH part AS (
    INSERT INTO terms_settlement (
        settlement_id, seller_id, month, zone, currency, part, leads, money_micros, due_micros,
        booked_micros, words, by, at
    )
    SELECT p.settlement_id, p.seller_id, p.month, p.zone, p.currency, p.part, p.leads,
           p.money_micros, p.due_micros, p.booked_micros, p.words, p.by, p.at
    FROM jsonb_populate_record(NULL::terms_settlement, $1) p
)
INSERT INTO transfer (
    transfer_id, lead_id, day, subject, code, debit_account, credit_account, amount_micros,
    currency, at
)
SELECT t.transfer_id, t.lead_id, lead_day(t.lead_id), 'document', t.code, d.id, c.id,
       t.amount_micros, t.currency, t.at
FROM jsonb_to_record($2) AS t (
    transfer_id uuid, lead_id uuid, code integer, debit_party integer, debit_kind text,
    credit_party integer, credit_kind text, amount_micros bigint, currency text, at timestamptz
)
JOIN account d ON (d.party_id, d.kind, d.currency) = (t.debit_party, t.debit_kind, t.currency)
JOIN account c ON (c.party_id, c.kind, c.currency) = (t.credit_party, t.credit_kind, t.currency)
RETURNING transfer_id

-- name: accounts
-- The accounts that a transfer names; made where there is none yet.
INSERT INTO account (party_id, kind, currency)
VALUES ($1, $2, $5), ($3, $4, $5)
ON CONFLICT (party_id, kind, currency) DO NOTHING
