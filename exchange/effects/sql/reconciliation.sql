-- Our side of a reconciliation with a partner.

-- name: partner
-- A buyer or seller ($1) by its key ($2); the zone is that which its newest terms name.
SELECT p.id, p.name, coalesce(b.doc, s.doc) ->> 'time_zone' AS time_zone,
       ARRAY(SELECT a.id FROM account a
             WHERE a.party_id = p.id AND a.kind IN ('receivable', 'prepaid', 'payable')) AS accounts
FROM party p
LEFT JOIN LATERAL (
    SELECT doc FROM buyer_version WHERE buyer_id = p.id ORDER BY version DESC LIMIT 1
) b ON true
LEFT JOIN LATERAL (
    SELECT doc FROM seller_version WHERE seller_id = p.id ORDER BY version DESC LIMIT 1
) s ON true
WHERE p.kind = $1 AND p.key = $2

-- name: peppers
-- The epochs under which persons may be hashed.
SELECT DISTINCT epoch FROM key_epoch WHERE kind = 'pepper' ORDER BY epoch

-- name: count_of_buyer
-- How many attempts at a buyer ($1) there are between two moments ($2, $3), about: for a progress bar.
SELECT count(*) FROM attempt
WHERE buyer_id = $1 AND created_at >= $2 AND created_at < $3 AND NOT test

-- name: lines_of_buyer
-- A buyer's attempts between two moments, one per lead: the one that is or may be a sale, else the
-- last. Who was posted a lead has it from then on, so the post's moment is the sale's. What is owed is
-- what transfers on the buyer's accounts ($4) say, corrections included.
SELECT a.attempt_id::text, a.lead_id::text, a.buyer_ref AS reference, a.created_at AS sold_at,
       coalesce(b.net_micros + a.credited_micros, a.price_micros)::bigint AS price_micros,
       a.credited_micros, a.currency,
       CASE WHEN a.state = 'sold' AND a.credited_micros > 0 THEN 'returned'
            WHEN a.state = 'sold' THEN 'sold'
            WHEN a.state IN ('posting', 'unknown') THEN 'in_doubt'
            ELSE 'rejected' END AS status,
       '{}'::text[] AS parts,
       CASE WHEN a.state = 'written_off' THEN 'written off by us after a doubt' ELSE '' END AS note,
       ARRAY(SELECT k.kind FROM person_key k WHERE k.lead_id = a.lead_id AND k.day = a.day
             ORDER BY k.kind, k.hmac) AS kinds,
       ARRAY(SELECT k.hmac FROM person_key k WHERE k.lead_id = a.lead_id AND k.day = a.day
             ORDER BY k.kind, k.hmac) AS hashes
FROM attempt a
LEFT JOIN LATERAL (
    SELECT sum(CASE WHEN t.debit_account = ANY($4::bigint[]) THEN t.amount_micros ELSE 0 END
               - CASE WHEN t.credit_account = ANY($4) THEN t.amount_micros ELSE 0 END) AS net_micros
    FROM transfer t
    WHERE t.lead_id = a.lead_id AND t.day = a.day AND t.attempt_id = a.attempt_id
) b ON a.state = 'sold'
WHERE a.buyer_id = $1 AND a.created_at >= $2 AND a.created_at < $3 AND NOT a.test
  AND (a.state IN ('sold', 'posting', 'unknown') OR NOT EXISTS (
      SELECT FROM attempt b
      WHERE b.lead_id = a.lead_id AND b.day = a.day AND b.buyer_id = a.buyer_id
        AND (b.state IN ('sold', 'posting', 'unknown') OR b.attempt_id > a.attempt_id)))
ORDER BY a.created_at, a.attempt_id

-- name: count_of_seller
-- How many leads of a seller ($1) there are between two moments ($2, $3), about.
SELECT count(*) FROM lead
WHERE seller_id = $1 AND received_at >= $2 AND received_at < $3 AND NOT test
  AND day BETWEEN ($2 AT TIME ZONE 'UTC')::date - 1 AND ($3 AT TIME ZONE 'UTC')::date

-- name: lines_of_seller
-- A seller's leads between two moments. What we owe is what transfers on the seller's accounts ($4)
-- say of the lead: payouts of all its sales and whatever its terms add, less what was clawed back.
-- A lead's id is a day older at most than the moment it was received.
SELECT coalesce(s.sold[1], s.last) AS attempt_id, l.lead_id::text, l.external_id AS reference,
       l.received_at AS sold_at, coalesce(b.paid_micros, 0)::bigint AS price_micros,
       coalesce(b.back_micros, 0)::bigint AS credited_micros, l.currency,
       CASE WHEN coalesce(b.paid_micros, 0) > 0 AND b.back_micros > 0 THEN 'returned'
            WHEN cardinality(s.sold) > 0 OR b.paid_micros > 0 THEN 'sold'
            WHEN s.is_open OR l.state IN ('received', 'selling') THEN 'in_doubt'
            ELSE 'rejected' END AS status,
       coalesce(s.sold[2:], '{}') AS parts,
       CASE WHEN s.is_written_off THEN 'written off by us after a doubt' ELSE '' END AS note,
       ARRAY(SELECT k.kind FROM person_key k WHERE k.lead_id = l.lead_id AND k.day = l.day
             ORDER BY k.kind, k.hmac) AS kinds,
       ARRAY(SELECT k.hmac FROM person_key k WHERE k.lead_id = l.lead_id AND k.day = l.day
             ORDER BY k.kind, k.hmac) AS hashes
FROM lead l
LEFT JOIN LATERAL (
    SELECT array_agg(a.attempt_id::text ORDER BY a.attempt_id) FILTER (WHERE a.state = 'sold') AS sold,
           max(a.attempt_id::text) AS last, bool_or(a.state IN ('posting', 'unknown')) AS is_open,
           bool_or(a.state = 'written_off') AND NOT bool_or(a.state = 'sold') AS is_written_off
    FROM attempt a WHERE a.lead_id = l.lead_id AND a.day = l.day
) s ON true
LEFT JOIN LATERAL (
    SELECT sum(t.amount_micros) FILTER (WHERE t.credit_account = ANY($4::bigint[])) AS paid_micros,
           coalesce(sum(t.amount_micros) FILTER (WHERE t.debit_account = ANY($4)), 0) AS back_micros
    FROM transfer t WHERE t.lead_id = l.lead_id AND t.day = l.day
) b ON true
WHERE l.seller_id = $1 AND l.received_at >= $2 AND l.received_at < $3 AND NOT l.test
  AND l.day BETWEEN ($2 AT TIME ZONE 'UTC')::date - 1 AND ($3 AT TIME ZONE 'UTC')::date
ORDER BY l.received_at, l.lead_id
