-- name: totals
-- Pings, offers and leads by state, since a moment.
SELECT 'ping' AS what, outcome AS state, count(*) AS count
FROM ping WHERE received_at >= $1 GROUP BY outcome
UNION ALL
SELECT 'lead', state, count(*) FROM lead WHERE received_at >= $1 GROUP BY state
UNION ALL
SELECT 'attempt', state, count(*) FROM attempt WHERE created_at >= $1 GROUP BY state

-- name: unsold_pings
-- Why pings had no offer.
SELECT reason, count(*) AS count FROM ping
WHERE received_at >= $1 AND outcome = 'no_offer' GROUP BY reason ORDER BY count DESC

-- name: money_by_buyer
-- What each buyer owes for sales, by currency.
SELECT p.key AS party, a.currency, count(*) AS sales, sum(a.price_micros)::bigint AS price_micros,
       sum(a.payout_micros)::bigint AS payout_micros, sum(a.fee_micros)::bigint AS fee_micros
FROM attempt a JOIN party p ON p.id = a.buyer_id
WHERE a.state = 'sold' AND NOT a.test AND a.created_at >= $1
GROUP BY p.key, a.currency ORDER BY price_micros DESC

-- name: money_by_seller
-- What each seller is owed for sales, by currency.
SELECT p.key AS party, a.currency, count(*) AS sales, sum(a.price_micros)::bigint AS price_micros,
       sum(a.payout_micros)::bigint AS payout_micros, sum(a.fee_micros)::bigint AS fee_micros
FROM attempt a JOIN party p ON p.id = a.seller_id
WHERE a.state = 'sold' AND NOT a.test AND a.created_at >= $1
GROUP BY p.key, a.currency ORDER BY payout_micros DESC

-- name: chains
-- Every custody event since a moment, lead by lead, in order.
SELECT e.lead_id, e.seq, e.kind, e.bytes, e.prev, e.hash, e.at, l.custody_seq, l.custody_head
FROM custody_event e JOIN lead l ON l.lead_id = e.lead_id AND l.day = e.day
WHERE l.received_at >= $1 ORDER BY e.lead_id, e.seq

-- name: added
-- What the exchange added to pings, in ms.
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY added_ms) AS p50,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY added_ms) AS p99,
       count(*) FILTER (WHERE late_ms > 0) AS late,
       count(*) AS pings
FROM ping WHERE received_at >= $1 AND NOT direct

-- name: open_doubts
-- Attempts whose outcome is still open.
SELECT count(*) FROM attempt WHERE state IN ('posting', 'unknown')

-- name: happened
-- The events a demo must have met.
SELECT
    (SELECT count(*) FROM attempt_event WHERE state = 'unknown') AS doubts,
    (SELECT count(*) FROM attempt_event
     WHERE detail ? 'resolved_by' AND state IN ('sold', 'rejected', 'written_off')) AS resolved,
    (SELECT count(*) FROM attempt a WHERE a.state = 'sold' AND EXISTS (
        SELECT 1 FROM attempt b WHERE b.lead_id = a.lead_id AND b.day = a.day
          AND b.attempt_id <> a.attempt_id AND b.state IN ('rejected', 'voided'))) AS fell_through,
    (SELECT coalesce(sum((reason_counts ->> '507')::bigint), 0) FROM ping) AS cap_full
