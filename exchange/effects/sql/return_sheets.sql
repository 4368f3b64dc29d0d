-- What a buyer's sheet of returns is matched with, and what its words were learnt to mean.

-- name: words
-- What a buyer's ($1) headers, phrases and days mean, the oldest first: a newer row corrects.
SELECT kind, said, meaning FROM sheet_word WHERE buyer_id = $1 ORDER BY id

-- name: learn
-- More of them, by whom ($5).
INSERT INTO sheet_word (buyer_id, kind, said, meaning, by)
SELECT $1, w.kind, w.said, w.meaning, $5
FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS w (kind, said, meaning, place)
ORDER BY w.place

-- name: by_ids
-- A buyer's ($1) posts by their ids or their leads' ($2). An attempt is made on its lead's day, or just
-- after midnight.
SELECT n.id::text AS named, a.attempt_id::text, a.lead_id::text, a.contract_id, a.state,
       a.created_at AS posted_at, s.key AS seller, l.external_id, p.kinds, p.hashes
FROM unnest($2::uuid[]) AS n (id)
CROSS JOIN LATERAL (
    SELECT * FROM attempt WHERE attempt_id = n.id AND day BETWEEN lead_day(n.id) - 1 AND lead_day(n.id)
    UNION ALL
    SELECT * FROM attempt WHERE lead_id = n.id AND day = lead_day(n.id)
) a
JOIN lead l ON l.lead_id = a.lead_id AND l.day = a.day
JOIN seller s ON s.id = a.seller_id
CROSS JOIN LATERAL (
    SELECT array_agg(k.kind) AS kinds, array_agg(k.hmac) AS hashes
    FROM person_key k WHERE k.lead_id = a.lead_id AND k.day = a.day
) p
WHERE a.buyer_id = $1 AND NOT a.test

-- name: by_references
-- A buyer's ($1) posts since $2 that it gave one of these references ($3).
SELECT a.buyer_ref AS named, a.attempt_id::text, a.lead_id::text, a.contract_id, a.state,
       a.created_at AS posted_at, s.key AS seller, l.external_id, p.kinds, p.hashes
FROM attempt a
JOIN lead l ON l.lead_id = a.lead_id AND l.day = a.day
JOIN seller s ON s.id = a.seller_id
CROSS JOIN LATERAL (
    SELECT array_agg(k.kind) AS kinds, array_agg(k.hmac) AS hashes
    FROM person_key k WHERE k.lead_id = a.lead_id AND k.day = a.day
) p
WHERE a.buyer_id = $1 AND a.created_at >= $2 AND a.day >= ($2::timestamptz AT TIME ZONE 'UTC')::date - 1
  AND a.buyer_ref = ANY ($3::text[]) AND NOT a.test

-- name: by_persons
-- A buyer's ($1) posts of these persons ($2 kinds, $3 keyed hashes), each of the days from $4 to $5.
SELECT n.kind, n.hmac, a.attempt_id::text, a.lead_id::text, a.contract_id, a.state,
       a.created_at AS posted_at, s.key AS seller, l.external_id, p.kinds, p.hashes
FROM unnest($2::text[], $3::bytea[], $4::date[], $5::date[]) AS n (kind, hmac, first, last)
CROSS JOIN LATERAL (
    SELECT DISTINCT q.lead_id, q.day FROM person_key q
    WHERE q.hmac = n.hmac AND q.kind = n.kind AND q.day BETWEEN n.first AND n.last
) k
CROSS JOIN LATERAL (
    SELECT * FROM attempt WHERE lead_id = k.lead_id AND day = k.day AND buyer_id = $1 AND NOT test
) a
JOIN lead l ON l.lead_id = a.lead_id AND l.day = a.day
JOIN seller s ON s.id = a.seller_id
CROSS JOIN LATERAL (
    SELECT array_agg(k.kind) AS kinds, array_agg(k.hmac) AS hashes
    FROM person_key k WHERE k.lead_id = a.lead_id AND k.day = a.day
) p

-- name: note
-- An import that was booked, in the audit.
INSERT INTO audit (by, action, subject, detail) VALUES ($1, 'returns.import', $2, $3)
