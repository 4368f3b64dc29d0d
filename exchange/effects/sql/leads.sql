-- name: idem
-- A seller's idempotency key: what was asked with it and what was answered.
SELECT i.fingerprint, i.state, i.reply, i.lead_id, l.state AS lead_state, l.currency
FROM idem i
LEFT JOIN lead l ON l.lead_id = i.lead_id AND l.day = lead_day(i.lead_id)
WHERE i.seller_id = $1 AND i.key = $2

-- name: lead_of_seller
-- One lead as its seller may see it. What its key was told is its first sale; of one that was offered
-- again, what counts is who has bought it since.
SELECT l.lead_id, l.state, l.currency, l.test, 
       CASE WHEN again.is_so THEN NULL ELSE i.reply END AS reply,
       coalesce((SELECT sum(t.amount_micros)::bigint FROM transfer t
                 WHERE t.lead_id = l.lead_id AND t.day = l.day AND t.code = 50), 0)
           AS guaranteed_micros,
       coalesce((SELECT jsonb_agg(jsonb_build_object(
                     'attempt_id', a.attempt_id, 'buyer_id', a.buyer_id,
                     'payout_micros', a.payout_micros))
                 FROM attempt a
                 WHERE a.lead_id = l.lead_id AND a.day = l.day AND a.state = 'sold'
                   AND NOT (again.is_so AND is_returned(a.lead_id, a.day, a.attempt_id))), '[]')
           AS sold
FROM lead l
CROSS JOIN LATERAL (
    SELECT EXISTS (
        SELECT FROM resale r WHERE r.lead_id = l.lead_id AND r.day = l.day AND r.released
    ) AS is_so
) again
LEFT JOIN idem i ON i.seller_id = l.seller_id AND i.lead_id = l.lead_id
WHERE l.lead_id = $1 AND l.day = lead_day($1) AND l.seller_id = $2

-- name: key
-- The wrapped data key of a lead: it opens what of the lead is kept outside lead_private.
SELECT key_epoch, wrapped_dek
FROM lead_private
WHERE lead_id = $1 AND day = lead_day($1) AND erased_at IS NULL

-- name: sold_before
-- Whether a consumer with one of these keyed hashes was sold in this vertical since a moment.
SELECT EXISTS (
    SELECT 1 FROM person_key p
    JOIN lead l ON l.lead_id = p.lead_id AND l.day = p.day
    WHERE p.vertical_id = $1 AND p.hmac = ANY($2::bytea[]) AND l.received_at > $3
      AND l.lead_id <> $4 AND l.state IN ('sold', 'in_doubt', 'selling') AND NOT l.test
)

-- name: doubts
-- When posts came in doubt lately, per buyer.
SELECT a.buyer_id,
       array_agg((extract(epoch FROM e.at) * 1000)::bigint ORDER BY e.at) AS unknown_ms
FROM attempt_event e
JOIN attempt a ON a.lead_id = e.lead_id AND a.day = e.day AND a.attempt_id = e.attempt_id
WHERE e.state = 'unknown' AND e.at > $1 AND NOT a.test
GROUP BY a.buyer_id

-- name: answered_since
-- When a buyer last answered a post clearly, after a moment.
SELECT (extract(epoch FROM max(e.at)) * 1000)::bigint
FROM attempt_event e
JOIN attempt a ON a.lead_id = e.lead_id AND a.day = e.day AND a.attempt_id = e.attempt_id
WHERE a.buyer_id = $1 AND e.state IN ('sold', 'rejected') AND e.at > $2
  AND e.detail->>'resolved_by' IS NULL
