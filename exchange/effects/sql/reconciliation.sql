-- Our side of a reconciliation with a buyer.

-- name: buyer
-- A buyer by its key; its time zone is that of the newest version in force.
SELECT b.id, p.name, v.doc ->> 'time_zone' AS time_zone
FROM buyer b JOIN party p ON p.id = b.id
LEFT JOIN LATERAL (
    SELECT doc FROM buyer_version WHERE buyer_id = b.id ORDER BY version DESC LIMIT 1
) v ON true
WHERE b.key = $1

-- name: peppers
-- The epochs under which persons may be hashed.
SELECT DISTINCT epoch FROM key_epoch WHERE kind = 'pepper' ORDER BY epoch

-- name: count
-- How many attempts at a buyer ($1) there are between two moments ($2, $3), about: for a progress bar.
SELECT count(*) FROM attempt
WHERE buyer_id = $1 AND created_at >= $2 AND created_at < $3 AND NOT test

-- name: sales
-- A buyer's attempts between two moments, one per lead: the one that is or may be a sale, else the
-- last. Who was posted a lead has it from then on, so the post's moment is the sale's.
SELECT a.attempt_id::text, a.lead_id::text, a.buyer_ref, a.created_at AS sold_at, a.price_micros,
       a.credited_micros, a.currency,
       CASE WHEN a.state = 'sold' AND a.credited_micros > 0 THEN 'returned'
            WHEN a.state = 'sold' THEN 'sold'
            WHEN a.state IN ('posting', 'unknown') THEN 'in_doubt'
            ELSE 'rejected' END AS status,
       ARRAY(SELECT k.kind FROM person_key k WHERE k.lead_id = a.lead_id AND k.day = a.day
             ORDER BY k.kind, k.hmac) AS kinds,
       ARRAY(SELECT k.hmac FROM person_key k WHERE k.lead_id = a.lead_id AND k.day = a.day
             ORDER BY k.kind, k.hmac) AS hashes
FROM attempt a
WHERE a.buyer_id = $1 AND a.created_at >= $2 AND a.created_at < $3 AND NOT a.test
  AND (a.state IN ('sold', 'posting', 'unknown') OR NOT EXISTS (
      SELECT FROM attempt b
      WHERE b.lead_id = a.lead_id AND b.day = a.day AND b.buyer_id = a.buyer_id
        AND (b.state IN ('sold', 'posting', 'unknown') OR b.attempt_id > a.attempt_id)))
ORDER BY a.created_at, a.attempt_id
