-- Pauses of sources: made, lifted and listed. Workers read them with the book.

-- name: pause
-- A pause ($1 one document: its row, the notices, the audit), unless the same stands already for the
-- same cause; then nothing is written. Answers whether it was made.
WITH given AS (
    SELECT * FROM jsonb_to_record($1) AS g (pause jsonb, outbox jsonb, audit jsonb)
),
made AS (
    INSERT INTO source_pause (
        pause_id, source_id, sub_id, buyer_id, incident_id, since, by, why, lift_at
    )
    SELECT p.pause_id, p.source_id, p.sub_id, p.buyer_id, p.incident_id, p.since, p.by, p.why,
           p.lift_at
    FROM given CROSS JOIN LATERAL jsonb_populate_record(NULL::source_pause, given.pause) p
    ON CONFLICT (source_id, sub_id, buyer_id, incident_id) WHERE lifted_at IS NULL DO NOTHING
    RETURNING pause_id
),
told AS (
    INSERT INTO outbox (outbox_id, lead_id, day, party_id, kind, body, at)
    SELECT o.outbox_id, made.pause_id, lead_day(made.pause_id), o.party_id, o.kind, o.body, o.at
    FROM made, given CROSS JOIN LATERAL jsonb_populate_recordset(NULL::outbox, given.outbox) o
),
audited AS (
    INSERT INTO audit (by, action, subject, detail)
    SELECT u.by, u.action, u.subject, u.detail
    FROM made, given CROSS JOIN LATERAL jsonb_populate_record(NULL::audit, given.audit) u
)
SELECT EXISTS (SELECT FROM made)

-- name: lift
-- Ends the pauses of a source ($1), its sub_id ($2) at a buyer ($3) that no incident holds; how many.
-- $7 is the audit.
WITH lifted AS (
    UPDATE source_pause SET lifted_at = $4, lifted_by = $5, lifted_why = $6
    WHERE source_id = $1 AND sub_id IS NOT DISTINCT FROM $2 AND buyer_id IS NOT DISTINCT FROM $3
      AND incident_id IS NULL AND lifted_at IS NULL
    RETURNING pause_id
),
audited AS (
    INSERT INTO audit (by, action, subject, detail)
    SELECT u.by, u.action, u.subject, u.detail
    FROM jsonb_populate_record(NULL::audit, $7) u
    WHERE EXISTS (SELECT FROM lifted)
)
SELECT count(*) FROM lifted

-- name: lift_due
-- Ends the pauses whose time is over by $1; only by the holder of the lease ($2, $3).
WITH lifted AS (
    UPDATE source_pause p SET lifted_at = $1, lifted_by = 'rule', lifted_why = 'its days are over'
    FROM job_lease j
    WHERE p.lift_at <= $1 AND p.lifted_at IS NULL AND j.job = $2 AND j.epoch = $3
    RETURNING p.pause_id
),
audited AS (
    INSERT INTO audit (by, action, subject, detail)
    SELECT 'rule', 'source.resume', pause_id::text, '{"why": "its days are over"}' FROM lifted
)
SELECT count(*) FROM lifted

-- name: listing
-- Pauses of sources (of source $1, or all), those in force first, the newest first; with $2 those
-- that were lifted too; at most $3.
SELECT p.pause_id::text, seller.key AS seller, s.key AS source, p.sub_id, b.key AS buyer,
       p.incident_id::text, p.since, p.by, p.why, p.lift_at, p.lifted_at, p.lifted_by, p.lifted_why
FROM source_pause p
JOIN source s ON s.id = p.source_id
JOIN seller ON seller.id = s.seller_id
LEFT JOIN buyer b ON b.id = p.buyer_id
WHERE ($1::integer IS NULL OR p.source_id = $1) AND ($2 OR p.lifted_at IS NULL)
ORDER BY p.lifted_at IS NOT NULL, p.since DESC, p.pause_id DESC
LIMIT $3

-- name: rates
-- Per source (or, with $6, sub_id): the sales of a buyer ($1), or of its contract ($2), begun since $3,
-- and those of them with a return granted (with $5 also one that waits), for the reasons $4 or any.
-- Sales begun before the source's last pause at this buyer ended do not count, nor those that an
-- incident made good.
WITH ended AS (
    SELECT source_id, sub_id, max(lifted_at) AS at
    FROM source_pause WHERE buyer_id = $1 AND lifted_at IS NOT NULL
    GROUP BY source_id, sub_id
),
sale AS (
    SELECT l.source_id, CASE WHEN $6 THEN l.sub_id END AS sub_id,
           EXISTS (
               SELECT FROM return_case c
               WHERE c.lead_id = a.lead_id AND c.day = a.day AND c.attempt_id = a.attempt_id
                 AND (c.state = 'granted'
                      OR $5 AND c.state IN ('requested', 'referred', 'appealed'))
                 AND ($4::text[] IS NULL OR c.reason = ANY ($4))
           ) AS is_returned
    FROM attempt a
    JOIN lead l ON l.lead_id = a.lead_id AND l.day = a.day
    WHERE a.buyer_id = $1 AND ($2::integer IS NULL OR a.contract_id = $2)
      AND a.created_at >= $3 AND a.day >= ($3::timestamptz AT TIME ZONE 'UTC')::date - 1
      AND a.state = 'sold' AND NOT a.test
      AND NOT EXISTS (
          SELECT FROM ended e
          WHERE e.source_id = l.source_id AND (e.sub_id IS NULL OR e.sub_id = l.sub_id)
            AND a.created_at <= e.at
      )
      AND NOT EXISTS (
          SELECT FROM return_case c
          WHERE c.lead_id = a.lead_id AND c.day = a.day AND c.attempt_id = a.attempt_id
            AND c.rule = 'incident_credited'
      )
)
SELECT source_id, sub_id, count(*) AS sales, count(*) FILTER (WHERE is_returned) AS returns
FROM sale
WHERE NOT $6 OR sub_id IS NOT NULL
GROUP BY source_id, sub_id
