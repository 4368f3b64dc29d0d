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
