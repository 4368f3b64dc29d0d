-- name: forget_keys
-- Idempotency keys whose lead is older than id $1 and that were answered before $2, at most $3; only
-- by the holder of the lease. Ids begin with their time, so the index on the lead finds the old ones.
WITH old AS (
    SELECT seller_id, key
    FROM idem
    WHERE lead_id < $1 AND state = 'done' AND done_at < $2
    ORDER BY lead_id
    LIMIT $3
),
gone AS (
    DELETE FROM idem i
    USING old, job_lease j
    WHERE i.seller_id = old.seller_id AND i.key = old.key AND j.job = $4 AND j.epoch = $5
    RETURNING i.key
)
SELECT count(*) FROM gone

-- name: expired
-- The next $4 leads after id $1 whose sealed record's time is over: made before id $2 and received by
-- nobody for good, or before id $3 and ended. A lead that is open or in doubt keeps its record; so
-- does, for the longer time, one that was written off: the buyer may have it.
SELECT l.lead_id::text
FROM lead l
JOIN lead_private p ON p.lead_id = l.lead_id AND p.day = l.day AND p.erased_at IS NULL
WHERE l.lead_id > $1 AND l.lead_id < greatest($2::uuid, $3::uuid) AND l.day <= $5
  AND (l.state IN ('sold', 'unsold') AND l.lead_id < $3
       OR l.state = 'unsold' AND l.lead_id < $2 AND NOT EXISTS (
              SELECT FROM attempt a
              WHERE a.lead_id = l.lead_id AND a.day = l.day
                AND a.state NOT IN ('voided', 'rejected')))
ORDER BY l.lead_id
LIMIT $4

-- name: shred
-- Destroys the keys of these leads' records, the records, and the hashes their consumers were known
-- by; only by the holder of the lease. Days $2 to $3 are theirs.
WITH gone AS (
    UPDATE lead_private p
    SET erased_at = now(), wrapped_dek = NULL, sealed = NULL
    FROM job_lease j
    WHERE p.lead_id = ANY ($1::uuid[]) AND p.day BETWEEN $2 AND $3 AND p.erased_at IS NULL
      AND j.job = $4 AND j.epoch = $5
    RETURNING p.lead_id
),
forgotten AS (
    DELETE FROM person_key k
    WHERE k.lead_id IN (SELECT lead_id FROM gone) AND k.day BETWEEN $2 AND $3
)
SELECT count(*) FROM gone
