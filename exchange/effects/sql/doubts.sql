-- name: stuck
-- Attempts that nobody will finish: their process is dead, or their time is over (a worker that
-- lives but hangs).
SELECT attempt_id
FROM attempt
WHERE state = 'posting' AND (boot_id = ANY($1::text[]) OR deadline_at < $2)
ORDER BY deadline_at
LIMIT $3

-- name: due
-- Attempts in doubt that it is time to look at again.
SELECT attempt_id
FROM attempt
WHERE state = 'unknown' AND (next_check_at IS NULL OR next_check_at <= $1)
ORDER BY next_check_at
LIMIT $2

-- name: orphans
-- Leads that nobody will finish, with no attempt under way: of a dead process, or untouched for so
-- long that no request can still be working on them.
SELECT l.lead_id
FROM lead l
WHERE l.state IN ('received', 'selling') AND (l.boot_id = ANY($1::text[]) OR l.updated_at < $2)
  AND NOT EXISTS (
      SELECT FROM attempt a
      WHERE a.lead_id = l.lead_id AND a.day = l.day AND a.state IN ('posting', 'unknown')
  )
LIMIT $3

-- name: attempts_now
-- Open attempts as they stand, with the moment they came in doubt, and the ping of the buyer where
-- its lead was offered again.
SELECT a.attempt_id::text, a.lead_id::text, a.seller_id, a.buyer_id, a.contract_id,
       a.contract_version, a.rank, a.leg, a.state, a.price_micros, a.payout_micros, a.fee_micros,
       a.currency, a.buyer_bid_ref, a.bid_expires_at, a.deadline_at,
       coalesce(a.next_check_at, a.deadline_at) AS next_check_at, a.boot_id, a.cap_mode, a.cap_sq,
       a.windows, a.slots, a.test, a.created_at, coalesce(e.at, a.created_at) AS since,
       CASE WHEN a.leg > 1 THEN (
           SELECT r.resale_id::text FROM resale r
           WHERE r.lead_id = a.lead_id AND r.day = a.day AND r.leg = a.leg AND r.released
       ) END AS ping_id
FROM attempt a
LEFT JOIN attempt_event e
    ON e.lead_id = a.lead_id AND e.day = a.day AND e.attempt_id = a.attempt_id
       AND e.state = 'unknown'
WHERE a.attempt_id = ANY($1::uuid[])

-- name: leads_now
-- Leads as they stand: state, head of the chain, the key whose reply is owed, what else is live or
-- sold (of one that was offered again, what was not given back), and what is guaranteed should nobody buy: nothing of a test, or once somebody had bought.
SELECT l.lead_id::text, l.seller_id, l.vertical_id, l.state, l.currency, l.custody_seq,
       encode(l.custody_head, 'hex') AS custody_head, l.boot_id, l.test,
       coalesce((SELECT i.key FROM idem i WHERE i.lead_id = l.lead_id AND i.seller_id = l.seller_id
                 ORDER BY i.state DESC, i.created_at LIMIT 1), '') AS idem_key,
       (SELECT count(*) FROM attempt a
        WHERE a.lead_id = l.lead_id AND a.day = l.day AND a.state IN ('posting', 'unknown')) AS live,
       coalesce((SELECT jsonb_agg(jsonb_build_object(
                     'attempt_id', a.attempt_id, 'buyer_id', a.buyer_id,
                     'payout_micros', a.payout_micros))
                 FROM attempt a
                 WHERE a.lead_id = l.lead_id AND a.day = l.day AND a.state = 'sold'
                   AND NOT (EXISTS (SELECT FROM resale r
                                    WHERE r.lead_id = l.lead_id AND r.day = l.day AND r.released)
                            AND is_returned(a.lead_id, a.day, a.attempt_id))), '[]') AS sold,
       CASE WHEN l.test OR EXISTS (
                SELECT FROM attempt a
                WHERE a.lead_id = l.lead_id AND a.day = l.day AND a.state = 'sold'
            ) THEN 0 ELSE coalesce((l.offer->>'guaranteed_micros')::bigint, 0) END
           AS guaranteed_micros
FROM unnest($1::uuid[]) AS wanted (lead_id)
JOIN lead l ON l.lead_id = wanted.lead_id AND l.day = lead_day(wanted.lead_id)

-- name: postpone
-- Look again later; only the holder of the lease decides when.
UPDATE attempt a
SET next_check_at = $3, checks = checks + 1, updated_at = now()
FROM job_lease j
WHERE a.lead_id = $1 AND a.day = lead_day($1) AND a.attempt_id = $2 AND a.state = 'unknown'
  AND j.job = $4 AND j.epoch = $5
RETURNING true

-- name: untold
-- Attempts with caps that dead processes ended, or began, in their last moments: Valkey may not have
-- been told. Doubts too that changed in those moments, whoever began them: reconcile, or a worker
-- that took a buyer's callback, may have ended them and died.
SELECT a.attempt_id::text, a.buyer_id, a.state, a.windows
FROM boot b
JOIN attempt a ON a.boot_id = b.boot_id AND a.updated_at > b.beat_at - make_interval(secs => $2)
WHERE b.boot_id = ANY($1::text[]) AND a.windows <> '[]' AND a.state <> 'posting'
UNION
SELECT a.attempt_id::text, a.buyer_id, a.state, a.windows
FROM boot b
JOIN attempt_event e ON e.state = 'unknown' AND e.at > now() - interval '8 days'
JOIN attempt a
    ON a.lead_id = e.lead_id AND a.day = e.day AND a.attempt_id = e.attempt_id
       AND a.updated_at > b.beat_at - make_interval(secs => $2)
WHERE b.boot_id = ANY($1::text[]) AND a.windows <> '[]' AND a.state <> 'posting'

-- name: lately_dead
-- Boots that died within the last $2 seconds.
SELECT boot_id
FROM boot
WHERE (ended_at IS NOT NULL OR beat_at < now() - make_interval(secs => $1))
  AND beat_at > now() - make_interval(secs => $2)

-- name: listing
-- The posts in doubt, oldest first, narrowed by any of buyer, contract, seller, age.
SELECT a.attempt_id::text, a.lead_id::text, a.buyer_id, a.contract_id, a.seller_id, a.price_micros,
       a.payout_micros, a.currency, a.windows, a.deadline_at, a.next_check_at, a.checks, a.test,
       coalesce(e.at, a.created_at) AS since
FROM attempt a
LEFT JOIN attempt_event e
    ON e.lead_id = a.lead_id AND e.day = a.day AND e.attempt_id = a.attempt_id
       AND e.state = 'unknown'
WHERE a.state = 'unknown'
  AND ($1::integer IS NULL OR a.buyer_id = $1)
  AND ($2::integer IS NULL OR a.contract_id = $2)
  AND ($3::integer IS NULL OR a.seller_id = $3)
  AND ($4::timestamptz IS NULL OR coalesce(e.at, a.created_at) < $4)
  AND ($5::uuid[] IS NULL OR a.attempt_id = ANY($5) OR a.lead_id = ANY($5))
ORDER BY since
LIMIT $6

-- name: audit
-- Who did it and why.
INSERT INTO audit (by, action, subject, detail) VALUES ($1, $2, $3, $4)

-- name: sealed
-- The sealed record of a lead: only the re-post of a post in doubt opens it.
SELECT key_epoch, wrapped_dek, sealed
FROM lead_private
WHERE lead_id = $1 AND day = lead_day($1) AND erased_at IS NULL
