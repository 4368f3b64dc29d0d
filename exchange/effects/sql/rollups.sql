-- Daily balances: kept by a job, read by whoever asks for a balance.

-- name: due
-- The days up to $1 that are to be rolled up, the oldest first, at most $2. Where none ever was, they
-- begin with the first transfer's.
WITH begun AS (
    SELECT CASE WHEN bool_or(done >= 0) THEN min(day)
                ELSE least(min(day), (SELECT min((at AT TIME ZONE 'UTC')::date) FROM transfer)) END
           AS day
    FROM rollup_day
)
SELECT d::date AS day
FROM begun
CROSS JOIN generate_series(begun.day, $1::date, interval '1 day') d
LEFT JOIN rollup_day r ON r.day = d::date
WHERE r.day IS NULL OR r.done < r.asked
ORDER BY d
LIMIT $2

-- name: held
-- Whether the lease of a job is still ours; it stays so until the transaction ends.
SELECT true FROM job_lease WHERE job = $1 AND epoch = $2 FOR SHARE

-- name: roll
-- One day ($1), from its transfers, in one look: what was asked for is seen as it was answered. An
-- account that has none (any more) is set to nothing.
WITH asked AS (
    SELECT coalesce((SELECT r.asked FROM rollup_day r WHERE r.day = $1::date), 0) AS number
),
summed AS (
    SELECT side.account_id, sum(side.debit)::bigint AS debit, sum(side.credit)::bigint AS credit,
           count(*) AS number
    FROM transfer t
    CROSS JOIN LATERAL (
        VALUES (t.debit_account, t.amount_micros, 0), (t.credit_account, 0, t.amount_micros)
    ) AS side (account_id, debit, credit)
    WHERE t.at >= ($1::date)::timestamp AT TIME ZONE 'UTC'
      AND t.at < ($1::date + 1)::timestamp AT TIME ZONE 'UTC'
      AND t.day <= $1::date
    GROUP BY side.account_id
),
emptied AS (
    SELECT d.account_id FROM account_day d
    WHERE d.day = $1::date AND NOT EXISTS (SELECT FROM summed s WHERE s.account_id = d.account_id)
),
written AS (
    INSERT INTO account_day AS d (account_id, day, debit_micros, credit_micros, transfers)
    SELECT account_id, $1::date, debit, credit, number FROM summed
    UNION ALL
    SELECT account_id, $1::date, 0, 0, 0 FROM emptied
    ON CONFLICT (account_id, day) DO UPDATE
    SET debit_micros = excluded.debit_micros, credit_micros = excluded.credit_micros,
        transfers = excluded.transfers
    WHERE (d.debit_micros, d.credit_micros, d.transfers)
          <> (excluded.debit_micros, excluded.credit_micros, excluded.transfers)
)
INSERT INTO rollup_day AS r (day, asked, done, rolled_at)
SELECT $1::date, number, number, now() FROM asked
ON CONFLICT (day) DO UPDATE SET done = excluded.done, rolled_at = excluded.rolled_at

-- name: was_rolled
-- Whether a day ($1) was ever rolled up.
SELECT EXISTS (SELECT FROM rollup_day WHERE day = $1 AND done >= 0)

-- name: ask_all
-- Every day is to be rolled up anew.
UPDATE rollup_day SET asked = asked + 1
