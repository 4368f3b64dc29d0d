-- name: known
-- The epochs of the key file are known from now on.
INSERT INTO key_epoch (kind, epoch)
SELECT kind, epoch FROM unnest($1::text[], $2::integer[]) AS k (kind, epoch)
ON CONFLICT DO NOTHING

-- name: missing
-- Master keys that something is still sealed with, and that are not among these.
SELECT epoch FROM key_epoch
WHERE kind = 'kek' AND retired_at IS NULL AND epoch <> ALL ($1::integer[])
ORDER BY epoch

-- name: rotating
-- Whether a master key before this one is not retired yet.
SELECT EXISTS (
    SELECT FROM key_epoch WHERE kind = 'kek' AND epoch < $1 AND retired_at IS NULL
)

-- name: leads_wrapped_before
-- Some records whose data key is under an earlier master key.
SELECT lead_id::text AS place, key_epoch, wrapped_dek
FROM lead_private
WHERE key_epoch < $1 AND erased_at IS NULL
LIMIT $2

-- name: rewrap_lead
-- The same data key under another master key; only by the holder of the lease.
UPDATE lead_private p
SET key_epoch = $3, wrapped_dek = $4
FROM job_lease j
WHERE p.lead_id = $1 AND p.day = lead_day($1) AND p.key_epoch = $2 AND p.erased_at IS NULL
  AND j.job = $5 AND j.epoch = $6

-- name: secrets_wrapped_before
-- Some secrets whose data key is under an earlier master key.
SELECT name AS place, key_epoch, wrapped_dek FROM secret WHERE key_epoch < $1 LIMIT $2

-- name: rewrap_secret
-- The same, of a secret.
UPDATE secret s
SET key_epoch = $3, wrapped_dek = $4
FROM job_lease j
WHERE s.name = $1 AND s.key_epoch = $2 AND j.job = $5 AND j.epoch = $6

-- name: retire
-- Earlier master keys that nothing is sealed with any more, and that no living process (one that
-- began before the newest key was known) may still seal with.
UPDATE key_epoch k
SET retired_at = now()
WHERE k.kind = 'kek' AND k.epoch < $1 AND k.retired_at IS NULL
  AND NOT EXISTS (SELECT FROM lead_private p WHERE p.key_epoch = k.epoch AND p.erased_at IS NULL)
  AND NOT EXISTS (SELECT FROM secret s WHERE s.key_epoch = k.epoch)
  AND NOT EXISTS (
      SELECT FROM boot b, key_epoch newest
      WHERE newest.kind = 'kek' AND newest.epoch = $1 AND b.started_at < newest.created_at
        AND b.ended_at IS NULL AND b.beat_at > now() - interval '1 minute'
  )
RETURNING k.epoch
