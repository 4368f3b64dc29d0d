-- Returned leads that may be offered again: what is known of one, and what came of it.

-- name: due
-- Leads sold, given back in full since $1 for one of these reasons ($2), and not looked at since.
SELECT r.lead_id::text
FROM return_case r
JOIN lead l ON l.lead_id = r.lead_id AND l.day = r.day AND l.state = 'sold' AND NOT l.test
WHERE r.state = 'granted' AND r.decided_at > $1 AND r.reason = ANY ($2::text[])
  AND r.credit_micros > 0 AND r.rule IS DISTINCT FROM 'incident_credited'
  AND NOT EXISTS (SELECT FROM resale s WHERE s.return_id = r.return_id)
ORDER BY r.decided_at
LIMIT $3

-- name: lead
-- A lead as it stands, with its last granted return, whoever had it, and whether it was offered again
-- after that return (by hand, $2: to anybody). What an incident gave back, its source should not have
-- sent, whatever the reason: that is no buyer's own.
SELECT l.lead_id::text, l.seller_id, l.source_id, l.sub_id, l.vertical_id, l.external_id, l.state,
       l.test, l.floor_micros, l.currency, l.received_at, l.custody_seq,
       encode(l.custody_head, 'hex') AS custody_head,
       coalesce((SELECT i.key FROM idem i WHERE i.lead_id = l.lead_id AND i.seller_id = l.seller_id
                 ORDER BY i.created_at LIMIT 1), '') AS idem_key,
       had.attempts, had.leg, had.sales, had.sales_returned, back.return_id::text, back.reason,
       EXISTS (SELECT FROM resale s
               WHERE s.return_id = back.return_id AND (s.released OR NOT $2::boolean)) AS tried,
       coalesce((l.offer->>'named')::boolean, false) AS offered_named,
       ARRAY(SELECT (c->>'buyer_id')::integer
             FROM jsonb_array_elements(coalesce(l.offer->'candidates', '[]')) c) AS offered_to
FROM lead l
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(a.buyer_id ORDER BY a.created_at), '{}') AS attempts,
           coalesce(max(a.leg), 1) + 1 AS leg,
           count(*) FILTER (WHERE a.state = 'sold') AS sales,
           count(*) FILTER (WHERE a.state = 'sold'
                              AND is_returned(a.lead_id, a.day, a.attempt_id)) AS sales_returned
    FROM attempt a WHERE a.lead_id = l.lead_id AND a.day = l.day
) had
LEFT JOIN LATERAL (
    SELECT r.return_id, CASE r.rule WHEN 'incident_credited' THEN r.rule ELSE r.reason END AS reason
    FROM return_case r
    WHERE r.lead_id = l.lead_id AND r.day = l.day AND r.state = 'granted'
    ORDER BY r.decided_at DESC LIMIT 1
) back ON true
WHERE l.lead_id = $1 AND l.day = lead_day($1)

-- name: note
-- It came to nothing, and why.
INSERT INTO resale (
    resale_id, lead_id, day, return_id, leg, released, rule, book_version, by, why, at
)
SELECT r.resale_id, r.lead_id, lead_day(r.lead_id), r.return_id, r.leg, false, r.rule,
       r.book_version, r.by, r.why, r.at
FROM jsonb_populate_record(NULL::resale, $1) r

-- name: audit
-- Who offered it again by hand, and why.
INSERT INTO audit (by, action, subject, detail) VALUES ($1, 'lead.resell', $2, $3)
