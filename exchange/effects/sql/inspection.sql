-- What the jobs process looks at again and again: work that is open, and whether the books of single
-- leads hold.

-- name: open_attempts
-- Attempts under way or in doubt, by buyer, state and currency; how many hold room under caps.
SELECT a.buyer_id, a.state, a.currency, count(*) AS attempts,
       count(*) FILTER (WHERE a.windows <> '[]') AS holds,
       sum(a.price_micros)::bigint AS price_micros, min(a.created_at) AS oldest
FROM attempt a
WHERE a.state IN ('posting', 'unknown') AND NOT a.test
GROUP BY a.buyer_id, a.state, a.currency

-- name: outbox
-- Webhooks that are owed.
SELECT count(*) AS pending, min(at) AS oldest FROM outbox WHERE state = 'pending'

-- name: bookings
-- The next $3 leads after $1 and before $2, in the order of their ids, which is that of time; of
-- each, how many attempts are not booked as they ended: a sale's legs add up to its price and payout,
-- what is no sale has none. What returns moved is the whole proof's to look at.
SELECT l.lead_id::text, wrong.count AS misbooked
FROM lead l
CROSS JOIN LATERAL (
    SELECT count(*) AS count
    FROM attempt a
    CROSS JOIN LATERAL (
        SELECT count(*) AS legs,
               coalesce(sum(CASE a.buyer_id WHEN d.party_id THEN t.amount_micros
                                            WHEN c.party_id THEN -t.amount_micros ELSE 0 END), 0)
                   AS charged,
               coalesce(sum(CASE a.seller_id WHEN c.party_id THEN t.amount_micros
                                             WHEN d.party_id THEN -t.amount_micros ELSE 0 END), 0)
                   AS paid
        FROM transfer t
        JOIN account d ON d.id = t.debit_account AND d.currency = t.currency
        JOIN account c ON c.id = t.credit_account AND c.currency = t.currency
        WHERE t.lead_id = a.lead_id AND t.day = a.day AND t.attempt_id = a.attempt_id
          AND t.code IN (1, 2) AND t.currency = a.currency
    ) booked
    WHERE a.lead_id = l.lead_id AND a.day = l.day AND NOT a.test
      AND CASE WHEN a.state = 'sold'
               THEN booked.charged <> a.price_micros OR booked.paid <> a.payout_micros
               ELSE booked.legs > 0 END
) wrong
WHERE l.lead_id > $1 AND l.lead_id < $2 AND l.day BETWEEN lead_day($1) AND lead_day($2)
ORDER BY l.lead_id
LIMIT $3

-- name: chains
-- The custody events of these leads, with what each lead says is the head of its chain: in one
-- snapshot, for both move together.
SELECT l.lead_id::text, l.custody_seq, encode(l.custody_head, 'hex') AS custody_head,
       e.seq, e.kind, e.bytes, e.prev, e.hash, e.at
FROM lead l
LEFT JOIN custody_event e ON e.lead_id = l.lead_id AND e.day = l.day
WHERE l.lead_id = ANY($1::uuid[])
  AND l.day BETWEEN (SELECT min(lead_day(id)) FROM unnest($1::uuid[]) id)
                AND (SELECT max(lead_day(id)) FROM unnest($1::uuid[]) id)
ORDER BY l.lead_id, e.seq
