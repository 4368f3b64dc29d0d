-- What open return windows are expected to cost: which terms there are, and what was sold under them.

-- name: contracts
-- Every version of every contract that agreed on returns, with the zone its windows are of.
SELECT c.contract_id, c.version, c.doc->'returns' AS returns,
       coalesce(c.doc->>'time_zone', b.zone, $1) AS zone
FROM contract_version c
JOIN contract k ON k.id = c.contract_id
LEFT JOIN LATERAL (
    SELECT doc->>'time_zone' AS zone FROM buyer_version v
    WHERE v.buyer_id = k.buyer_id ORDER BY v.version DESC LIMIT 1
) b ON true
WHERE jsonb_typeof(c.doc->'returns') = 'object'

-- name: sellers
-- What sellers give back, by their newest terms; those who give nothing are left out.
SELECT s.id AS seller_id, v.doc->'clawback' AS clawback, coalesce(v.doc->>'time_zone', $1) AS zone
FROM seller s
JOIN LATERAL (
    SELECT doc FROM seller_version v WHERE v.seller_id = s.id ORDER BY v.version DESC LIMIT 1
) v ON true
WHERE jsonb_typeof(v.doc->'clawback') = 'object'

-- name: exposures
-- By contract and currency, of the sales posted until $1 and not before $2: those whose windows are
-- open (of a contract's version, $3 and $4, sold since $5), and what the house loses if they all come
-- back (a seller, $6, gives back a share, $8 millionths, of what was sold since $7); and those whose
-- windows have closed.
WITH version AS (
    SELECT * FROM unnest($3::integer[], $4::integer[], $5::timestamptz[])
        AS v (contract_id, version, since)
),
gives AS (
    SELECT * FROM unnest($6::integer[], $7::timestamptz[], $8::bigint[])
        AS g (seller_id, since, share)
)
SELECT a.contract_id, k.vertical_id, a.currency,
       count(*) FILTER (WHERE o.is_open)::integer AS open_sales,
       coalesce(sum(a.price_micros) FILTER (WHERE o.is_open), 0)::bigint AS open_micros,
       coalesce(sum(a.price_micros - CASE WHEN a.created_at >= g.since
                                          THEN a.payout_micros * g.share / 1000000 ELSE 0 END)
                FILTER (WHERE o.is_open), 0)::bigint AS loss_micros,
       count(*) FILTER (WHERE a.created_at < v.since)::integer AS ended_sales,
       coalesce(sum(a.price_micros) FILTER (WHERE a.created_at < v.since), 0)::bigint
           AS ended_micros,
       coalesce(sum(a.credited_micros) FILTER (WHERE a.created_at < v.since), 0)::bigint
           AS credited_micros
FROM attempt a
JOIN version v ON v.contract_id = a.contract_id AND v.version = a.contract_version
JOIN contract k ON k.id = a.contract_id
LEFT JOIN gives g ON g.seller_id = a.seller_id
CROSS JOIN LATERAL (
    SELECT a.created_at >= v.since AND a.credited_micros = 0 AS is_open
) o
WHERE a.state = 'sold' AND NOT a.test AND a.created_at < $1 AND a.created_at >= $2
  AND a.day BETWEEN ($2::timestamptz AT TIME ZONE 'UTC')::date - 1
                AND ($1::timestamptz AT TIME ZONE 'UTC')::date
GROUP BY a.contract_id, k.vertical_id, a.currency
ORDER BY a.contract_id, a.currency

-- name: write
-- What was accrued ($1 the period), by contract and currency.
INSERT INTO period_accrual (
    period_id, contract_id, currency, open_sales, open_micros, loss_micros, ended_sales,
    ended_micros, credited_micros, vertical_rate, rate, amount_micros
)
SELECT $1, a.contract_id, a.currency, a.open_sales, a.open_micros, a.loss_micros, a.ended_sales,
       a.ended_micros, a.credited_micros, a.vertical_rate, a.rate, a.amount_micros
FROM jsonb_to_recordset($2) AS a (
    contract_id integer, currency text, open_sales integer, open_micros bigint, loss_micros bigint,
    ended_sales integer, ended_micros bigint, credited_micros bigint, vertical_rate integer,
    rate integer, amount_micros bigint
)

-- name: of_period
-- How the accrual of a period came about.
SELECT c.key AS contract, c.vertical_id, a.*
FROM period_accrual a JOIN contract c ON c.id = a.contract_id
WHERE a.period_id = $1 ORDER BY a.currency, c.key

-- name: set_aside
-- What the period before this one ($1) set aside and nobody has taken back: its transfers.
SELECT t.transfer_id::text, t.lead_id::text, t.code, t.amount_micros, t.currency, t.at
FROM transfer t
WHERE t.lead_id = $1 AND t.day = lead_day($1) AND t.code = 40
  AND NOT EXISTS (
      SELECT FROM transfer r
      WHERE r.lead_id = t.lead_id AND r.day = t.day AND r.reverses = t.transfer_id
  )
