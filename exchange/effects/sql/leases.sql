-- name: boot_register
-- A process begins its life.
INSERT INTO boot (boot_id, process) VALUES ($1, $2)
ON CONFLICT (boot_id) DO UPDATE SET beat_at = now(), ended_at = NULL

-- name: boot_beat
-- It still lives.
UPDATE boot SET beat_at = now() WHERE boot_id = $1

-- name: boot_leave
-- It ends in good order.
UPDATE boot SET beat_at = now(), ended_at = now() WHERE boot_id = $1

-- name: boots_dead
-- Boots that ended, or missed their beats for $1 seconds, and have leads open. While Postgres itself
-- has run for less than that, nobody could beat, so only the ended ones count.
SELECT b.boot_id
FROM boot b
WHERE (b.ended_at IS NOT NULL
       OR b.beat_at < now() - make_interval(secs => $1)
          AND pg_postmaster_start_time() < now() - make_interval(secs => $1))
  AND (EXISTS (SELECT FROM lead l WHERE l.boot_id = b.boot_id AND l.state IN ('received', 'selling'))
       OR EXISTS (SELECT FROM attempt a WHERE a.boot_id = b.boot_id AND a.state = 'posting'))

-- name: lease_acquire
-- The lease, if it is free, has expired, or is ours from before: always under a new epoch.
INSERT INTO job_lease (job, boot_id, epoch, expires_at)
VALUES ($1, $2, 1, now() + make_interval(secs => $3))
ON CONFLICT (job) DO UPDATE
SET boot_id = excluded.boot_id, epoch = job_lease.epoch + 1, taken_at = now(),
    expires_at = excluded.expires_at
WHERE job_lease.expires_at < now() OR job_lease.boot_id = excluded.boot_id
RETURNING epoch

-- name: lease_renew
-- Holds on; no row when another epoch has begun.
UPDATE job_lease SET expires_at = now() + make_interval(secs => $3)
WHERE job = $1 AND epoch = $2
RETURNING epoch

-- name: lease_give_up
-- The next process need not wait.
UPDATE job_lease SET expires_at = now() - interval '1 second' WHERE job = $1 AND epoch = $2
