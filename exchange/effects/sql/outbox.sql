-- name: due
-- What is to be told now, oldest first, at most $2 to one party: a party that hangs holds up no
-- other.
SELECT outbox_id::text, lead_id::text, party_id, kind, body, at, tries
FROM (
    SELECT o.*, row_number() OVER (PARTITION BY o.party_id ORDER BY o.next_try_at) AS place
    FROM outbox o
    WHERE o.state = 'pending' AND o.next_try_at <= $1
) due
WHERE place <= $2
ORDER BY next_try_at
LIMIT $3

-- name: mark
-- How a try went; only by the holder of the lease. A row that is no longer pending stays as it is.
UPDATE outbox o
SET state = $3, tries = o.tries + 1, next_try_at = $4, last_result = $5,
    sent_at = CASE WHEN $3 = 'sent' THEN $6::timestamptz ELSE o.sent_at END
FROM job_lease j
WHERE o.outbox_id = $2 AND o.lead_id = $1 AND o.day = lead_day($1) AND o.state = 'pending'
  AND j.job = $7 AND j.epoch = $8
RETURNING true
