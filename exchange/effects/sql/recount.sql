-- What a recount of a buyer's open cap windows reads and writes.

-- name: contracts
-- The buyer's contracts with caps, by the newest market, and the buyer's own terms.
SELECT c.id, c.key, c.vertical_id, v.doc, b.key AS buyer_key, t.doc AS buyer_doc
FROM contract c
JOIN buyer b ON b.id = c.buyer_id
CROSS JOIN LATERAL (
    SELECT doc FROM contract_version WHERE contract_id = c.id ORDER BY version DESC LIMIT 1
) AS v
CROSS JOIN LATERAL (
    SELECT doc FROM buyer_version WHERE buyer_id = b.id ORDER BY version DESC LIMIT 1
) AS t
WHERE c.buyer_id = $1 AND v.doc ? 'caps'

-- name: counted
-- In one snapshot: sales and live attempts since $2 by contract, moment (quarters of an hour: no zone
-- is finer) and the values of the fields $3; and what the windows count by their names. A sale of a
-- held offer was made when it was promised.
WITH part AS MATERIALIZED (
    SELECT a.contract_id, a.price_micros, a.windows, l.offer,
           CASE WHEN l.offer @> jsonb_build_object('candidates',
                        jsonb_build_array(jsonb_build_object('attempt_id', a.attempt_id)))
                THEN to_timestamp((l.offer->>'received_at_ms')::bigint / 1000.0)
                ELSE a.created_at END AS at
    FROM attempt a LEFT JOIN lead l ON l.lead_id = a.lead_id AND l.day = a.day
    WHERE a.buyer_id = $1 AND NOT a.test AND a.state IN ('posting', 'unknown', 'sold')
      AND a.created_at >= $2
      AND NOT EXISTS (SELECT FROM cap_claim k
                      WHERE k.attempt_id = a.attempt_id AND k.state = 'released')
),
moment AS (
    SELECT contract_id, price_micros,
           to_timestamp(floor(extract(epoch FROM at) / 900) * 900) AS at,
           (SELECT jsonb_object_agg(name, p.offer->'fields'->name)
            FROM unnest($3::text[]) AS name WHERE p.offer->'fields' ? name) AS fields,
           (SELECT jsonb_object_agg(split_part(w->>0, '.', 2), split_part(w->>0, '.', 4))
            FROM jsonb_array_elements(p.windows) AS w WHERE w->>0 LIKE '%.%.%.%') AS segments
    FROM part p
)
SELECT contract_id, at, coalesce(fields, '{}') AS fields, coalesce(segments, '{}') AS segments,
       NULL AS win, count(*) AS leads, sum(price_micros)::bigint AS micros
FROM moment GROUP BY contract_id, at, fields, segments
UNION ALL
SELECT contract_id, NULL, NULL, NULL, w->>0, 0, sum((w->>2)::bigint)::bigint
FROM part CROSS JOIN jsonb_array_elements(windows) AS w
GROUP BY contract_id, w->>0

-- name: carried
-- What each window is to count beside the attempts that name it; the fence moves along.
INSERT INTO cap_window AS c (buyer_id, win, used, carried)
SELECT $1, n.win, greatest(n.carried, 0), n.carried
FROM unnest($2::text[], $3::bigint[]) AS n (win, carried)
LEFT JOIN cap_window o ON o.buyer_id = $1 AND o.win = n.win
WHERE n.carried <> coalesce(o.carried, 0)
ORDER BY n.win
ON CONFLICT (buyer_id, win) DO UPDATE
SET used = greatest(c.used + excluded.carried - c.carried, 0), carried = excluded.carried,
    updated_at = now()
