-- Accounting periods: what stands against closing one, and the statements that close it.

-- name: all
-- Every period, the oldest first.
SELECT id, from_day AS first, to_day - 1 AS last, zone, since, until, opened_at, opened_by,
       settled_at, closed_at, closed_by
FROM period ORDER BY from_day

-- name: open
-- A period of these days ($1 to $2, both included) of a zone; the database keeps their order.
INSERT INTO period (from_day, to_day, zone, opened_by) VALUES ($1, $2::date + 1, $3, $4)
RETURNING id

-- name: settle
-- Waits for whoever is writing transfers; a transaction of its own.
SELECT settle_period($1)

-- name: hold
-- The period, locked: nothing dated in it is written before this transaction ends.
SELECT closed_at FROM period WHERE id = $1 FOR UPDATE

-- name: in_doubt
-- Posts of the period ($1 its end) that have not ended.
SELECT count(*) AS wrong,
       coalesce((array_agg(attempt_id::text ORDER BY created_at))[1:$2], '{}') AS first
FROM attempt WHERE state IN ('posting', 'unknown') AND created_at < $1 AND NOT test

-- name: returns
-- Returns asked for before the period's end ($1) that nobody has decided.
SELECT count(*) AS wrong,
       coalesce((array_agg(return_id::text ORDER BY requested_at))[1:$2], '{}') AS first
FROM return_case
WHERE state IN ('requested', 'referred', 'appealed') AND requested_at < $1 AND NOT test

-- name: rollups
-- Days before the period's end ($1) whose balances are not rolled up.
WITH edge AS (
    SELECT CASE WHEN isfinite(rolled.until) THEN (rolled.until AT TIME ZONE 'UTC')::date
                ELSE (SELECT min((at AT TIME ZONE 'UTC')::date) FROM transfer WHERE at < $1) END
           AS day
    FROM (SELECT rolled_until($1) AS until) rolled
)
SELECT count(d) AS wrong, coalesce((array_agg(d::date::text ORDER BY d))[1:$2], '{}') AS first
FROM edge
LEFT JOIN generate_series(edge.day, ($1 AT TIME ZONE 'UTC')::date - 1, interval '1 day') d ON true

-- name: negative
-- Sellers who owe the house, before a moment ($1), more than their newest terms allow.
WITH owed AS (
    SELECT a.party_id, a.currency, sum(b.debit_micros - b.credit_micros)::bigint AS micros
    FROM balances_before($1) b
    JOIN account a ON a.id = b.account_id AND a.kind IN ('payable', 'clawback')
    GROUP BY a.party_id, a.currency
),
over AS (
    SELECT s.key, o.currency, o.micros
    FROM owed o
    JOIN seller s ON s.id = o.party_id
    JOIN LATERAL (
        SELECT (doc #>> '{remittance,negative_limit}')::numeric * 1000000 AS micros
        FROM seller_version v WHERE v.seller_id = o.party_id ORDER BY v.version DESC LIMIT 1
    ) most ON o.micros > most.micros
)
SELECT count(*) AS wrong,
       coalesce((array_agg(key || ' ' || currency ORDER BY micros DESC))[1:$2], '{}') AS first
FROM over

-- name: documents
-- Parties whose balance moved in the period (until $1) at a moment that no document in force covers.
-- By quarters of an hour: documents begin and end at midnights, and no zone is off by less.
WITH moved AS (
    SELECT DISTINCT a.party_id, a.currency,
           date_bin('15 minutes', t.at, '2000-01-01 00:00:00+00'::timestamptz) AS at
    FROM period p
    JOIN transfer t ON t.at >= p.since AND t.at < p.until
    JOIN account a ON a.id IN (t.debit_account, t.credit_account)
                  AND a.kind IN ('receivable', 'payable', 'clawback')
    WHERE p.until = $1 AND t.subject <> 'payment' AND t.code NOT IN (30, 130)
),
lacking AS (
    SELECT DISTINCT m.party_id, m.currency FROM moved m
    WHERE NOT EXISTS (
        SELECT FROM document d
        WHERE d.party_id = m.party_id AND d.currency = m.currency AND d.kind <> 'cancellation'
          AND d.since <= m.at AND d.until > m.at
          AND NOT EXISTS (SELECT FROM document c WHERE c.cancels = d.document_id)
    )
)
SELECT count(*) AS wrong,
       coalesce((array_agg(p.key || ' ' || l.currency ORDER BY p.key, l.currency))[1:$2], '{}') AS first
FROM lacking l JOIN party p ON p.id = l.party_id

-- name: payments
-- Payments before the period's end ($1) that cover no document, or not in full. What was paid ahead
-- into a wallet covers what is sold from it.
WITH open AS (
    SELECT p.payment_id, p.at
    FROM payment p
    WHERE p.at < $1 AND p.way <> 'refund'
      AND NOT EXISTS (
          SELECT FROM wallet w WHERE w.buyer_id = p.party_id AND w.currency = p.currency
      )
      AND p.amount_micros > (
          SELECT coalesce(sum(m.amount_micros), 0) FROM payment_match m
          LEFT JOIN payment_unmatch u USING (payment_id, part)
          WHERE m.payment_id = p.payment_id AND u.payment_id IS NULL
      )
)
SELECT count(*) AS wrong, coalesce((array_agg(payment_id::text ORDER BY at))[1:$2], '{}') AS first
FROM open

-- name: incidents
-- Incidents opened before the period's end ($1) whose amounts are not all booked.
SELECT count(*) AS wrong,
       coalesce((array_agg(incident_id::text ORDER BY opened_at))[1:$2], '{}') AS first
FROM incident WHERE state IN ('open', 'approved') AND opened_at < $1

-- name: transfers
-- How many transfers a period has: dated from $1 until before $2.
SELECT count(*) FROM transfer
WHERE at >= $1 AND at < $2 AND day <= ($2::timestamptz AT TIME ZONE 'UTC')::date

-- name: balances
-- The closing balances of a period ($1, from $2 until before $3), written: every account that has ever
-- moved opens with what it closed the period before with, or with what its transfers say.
WITH earlier AS (
    SELECT id FROM period WHERE to_day = (SELECT from_day FROM period WHERE id = $1)
),
at_first AS (SELECT * FROM balances_before($2)),
at_last AS (SELECT * FROM balances_before($3))
INSERT INTO period_balance (
    period_id, account_id, opening_micros, debit_micros, credit_micros, transfers
)
SELECT $1, l.account_id,
       CASE WHEN EXISTS (SELECT FROM earlier) THEN coalesce(p.closing_micros, 0)
            ELSE coalesce(f.debit_micros - f.credit_micros, 0) END,
       l.debit_micros - coalesce(f.debit_micros, 0), l.credit_micros - coalesce(f.credit_micros, 0),
       l.transfers - coalesce(f.transfers, 0)
FROM at_last l
LEFT JOIN at_first f USING (account_id)
LEFT JOIN period_balance p ON p.account_id = l.account_id AND p.period_id = (SELECT id FROM earlier)

-- name: waive
-- Lines that did not hold and were let pass.
INSERT INTO period_waiver (period_id, line, found, by, why)
SELECT $1, line, found, $4, $5 FROM unnest($2::text[], $3::text[]) AS w (line, found)

-- name: close
-- The lock itself.
UPDATE period SET closed_at = now(), closed_by = $2 WHERE id = $1 AND closed_at IS NULL

-- name: audit
-- What finance did, by whom.
INSERT INTO audit (by, action, subject, detail) VALUES ($1, $2, $3, $4)

-- name: waivers
-- What was let pass when a period closed.
SELECT line, found, by, why, at FROM period_waiver WHERE period_id = $1 ORDER BY line

-- name: closing
-- The closing balances of a period, by party and kind of account.
SELECT p.key AS party, p.kind AS party_kind, a.kind, a.currency, b.opening_micros, b.debit_micros,
       b.credit_micros, b.closing_micros, b.transfers
FROM period_balance b
JOIN account a ON a.id = b.account_id
JOIN party p ON p.id = a.party_id
WHERE b.period_id = $1
ORDER BY a.currency, p.kind, p.key, a.kind

-- name: balances_now
-- What every account has before a moment ($1), of one party ($2) or of all.
SELECT p.key AS party, p.kind AS party_kind, a.kind, a.currency,
       b.debit_micros, b.credit_micros, b.debit_micros - b.credit_micros AS balance_micros
FROM balances_before($1) b
JOIN account a ON a.id = b.account_id
JOIN party p ON p.id = a.party_id
WHERE $2::text IS NULL OR p.key = $2
ORDER BY a.currency, p.kind, p.key, a.kind
