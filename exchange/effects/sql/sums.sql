-- Sums are grouped by numbers, and what is left of millions of rows is given its name.

-- name: trade
-- What the tallies of days $1 to $2 say of trade, by $3, narrowed to a seller ($4) or buyer ($5).
WITH pinged AS (
    SELECT CASE $3::text
               WHEN 'source' THEN source_id WHEN 'seller' THEN seller_id
               WHEN 'vertical' THEN vertical_id WHEN 'day' THEN day - date '2000-01-01'
           END AS id,
           NULL::text AS reason, currency,
           sum(pings)::bigint AS pings, sum(offers)::bigint AS offers, sum(offered_micros)::bigint
           AS offered_micros, sum(late)::bigint AS late, sum(leads)::bigint AS leads
    FROM ping_daily
    WHERE day BETWEEN $1 AND $2 AND ($4::integer IS NULL OR seller_id = $4)
      AND $5::integer IS NULL
    GROUP BY 1, 3
),
traded AS (
    SELECT CASE $3::text
               WHEN 'source' THEN source_id WHEN 'seller' THEN seller_id
               WHEN 'vertical' THEN vertical_id WHEN 'day' THEN day - date '2000-01-01'
               WHEN 'buyer' THEN buyer_id WHEN 'contract' THEN contract_id
           END AS id,
           NULL::text AS reason, currency,
           sum(invited)::bigint AS invited, sum(bids)::bigint AS bids, sum(bid_micros)::bigint AS
           bid_micros, sum(below_floor)::bigint AS below_floor, sum(no_bids)::bigint AS no_bids,
           sum(timeouts)::bigint AS timeouts, sum(errors)::bigint AS errors, sum(wins)::bigint AS
           wins, sum(waited_ms)::bigint AS waited_ms, sum(posts)::bigint AS posts,
           sum(accepted)::bigint AS accepted, sum(rejected)::bigint AS rejected,
           sum(not_sent)::bigint AS not_sent, sum(doubted)::bigint AS doubted,
           sum(written_off)::bigint AS written_off, sum(price_micros)::bigint AS price_micros,
           sum(payout_micros)::bigint AS payout_micros, sum(fee_micros)::bigint AS fee_micros
    FROM trade_daily
    WHERE day BETWEEN $1 AND $2 AND ($4::integer IS NULL OR seller_id = $4)
      AND ($5::integer IS NULL OR buyer_id = $5)
    GROUP BY 1, 3
),
returned AS (
    SELECT CASE $3::text
               WHEN 'source' THEN source_id WHEN 'seller' THEN seller_id
               WHEN 'vertical' THEN vertical_id WHEN 'day' THEN day - date '2000-01-01'
               WHEN 'buyer' THEN buyer_id WHEN 'contract' THEN contract_id
           END AS id,
           CASE $3::text WHEN 'reason' THEN reason END AS reason, currency,
           sum(asked)::bigint AS asked, sum(granted)::bigint AS granted, sum(refused)::bigint AS
           refused, sum(waiting)::bigint AS waiting, sum(credit_micros)::bigint AS credit_micros,
           sum(clawback_micros)::bigint AS clawback_micros
    FROM return_daily
    WHERE day BETWEEN $1 AND $2 AND ($4::integer IS NULL OR seller_id = $4)
      AND ($5::integer IS NULL OR buyer_id = $5)
    GROUP BY 1, 2, 3
),
part AS (
    SELECT id, reason, currency, pings, offers, offered_micros, late, leads,
           0::bigint AS invited, 0::bigint AS bids, 0::bigint AS bid_micros, 0::bigint AS
           below_floor, 0::bigint AS no_bids, 0::bigint AS timeouts, 0::bigint AS errors, 0::bigint
           AS wins, 0::bigint AS waited_ms, 0::bigint AS posts, 0::bigint AS accepted, 0::bigint AS
           rejected, 0::bigint AS not_sent, 0::bigint AS doubted, 0::bigint AS written_off,
           0::bigint AS price_micros, 0::bigint AS payout_micros, 0::bigint AS fee_micros, 0::bigint
           AS asked, 0::bigint AS granted, 0::bigint AS refused, 0::bigint AS waiting, 0::bigint AS
           credit_micros, 0::bigint AS clawback_micros
    FROM pinged
    UNION ALL
    SELECT id, reason, currency, 0, 0, 0, 0, 0,
           invited, bids, bid_micros, below_floor, no_bids, timeouts, errors, wins, waited_ms,
           posts, accepted, rejected, not_sent, doubted, written_off, price_micros, payout_micros,
           fee_micros,
           0, 0, 0, 0, 0, 0
    FROM traded
    UNION ALL
    SELECT id, reason, currency, 0, 0, 0, 0, 0,
           0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
           asked, granted, refused, waiting, credit_micros, clawback_micros
    FROM returned
)
SELECT CASE $3::text
           WHEN 'source' THEN (SELECT e.key || '/' || o.key FROM source o JOIN seller e
                               ON e.id = o.seller_id WHERE o.id = p.id)
           WHEN 'seller' THEN (SELECT e.key FROM seller e WHERE e.id = p.id)
           WHEN 'buyer' THEN (SELECT b.key FROM buyer b WHERE b.id = p.id)
           WHEN 'contract' THEN (SELECT c.key FROM contract c WHERE c.id = p.id)
           WHEN 'vertical' THEN (SELECT v.key FROM vertical v WHERE v.id = p.id)
           WHEN 'day' THEN (date '2000-01-01' + p.id)::text WHEN 'reason' THEN p.reason
       END AS key,
       p.currency,
       sum(p.pings)::bigint AS pings, sum(p.offers)::bigint AS offers, sum(p.offered_micros)::bigint
       AS offered_micros, sum(p.late)::bigint AS late, sum(p.leads)::bigint AS leads,
       sum(p.invited)::bigint AS invited, sum(p.bids)::bigint AS bids, sum(p.bid_micros)::bigint AS
       bid_micros, sum(p.below_floor)::bigint AS below_floor, sum(p.no_bids)::bigint AS no_bids,
       sum(p.timeouts)::bigint AS timeouts, sum(p.errors)::bigint AS errors, sum(p.wins)::bigint AS
       wins, sum(p.waited_ms)::bigint AS waited_ms, sum(p.posts)::bigint AS posts,
       sum(p.accepted)::bigint AS accepted, sum(p.rejected)::bigint AS rejected,
       sum(p.not_sent)::bigint AS not_sent, sum(p.doubted)::bigint AS doubted,
       sum(p.written_off)::bigint AS written_off, sum(p.price_micros)::bigint AS price_micros,
       sum(p.payout_micros)::bigint AS payout_micros, sum(p.fee_micros)::bigint AS fee_micros,
       sum(p.asked)::bigint AS asked, sum(p.granted)::bigint AS granted, sum(p.refused)::bigint AS
       refused, sum(p.waiting)::bigint AS waiting, sum(p.credit_micros)::bigint AS credit_micros,
       sum(p.clawback_micros)::bigint AS clawback_micros
FROM part p
GROUP BY p.id, p.reason, p.currency
ORDER BY 1, 2

-- name: reasons
-- Returns granted on days $1 to $2 by $3 and reason, narrowed as above.
WITH returned AS (
    SELECT CASE $3::text
               WHEN 'source' THEN source_id WHEN 'seller' THEN seller_id
               WHEN 'vertical' THEN vertical_id WHEN 'day' THEN day - date '2000-01-01'
               WHEN 'buyer' THEN buyer_id WHEN 'contract' THEN contract_id
           END AS id,
           currency, reason, sum(granted)::bigint AS granted
    FROM return_daily
    WHERE day BETWEEN $1 AND $2 AND ($4::integer IS NULL OR seller_id = $4)
      AND ($5::integer IS NULL OR buyer_id = $5)
    GROUP BY 1, 2, 3
    HAVING sum(granted) > 0
)
SELECT CASE $3::text
           WHEN 'source' THEN (SELECT e.key || '/' || o.key FROM source o JOIN seller e
                               ON e.id = o.seller_id WHERE o.id = r.id)
           WHEN 'seller' THEN (SELECT e.key FROM seller e WHERE e.id = r.id)
           WHEN 'buyer' THEN (SELECT b.key FROM buyer b WHERE b.id = r.id)
           WHEN 'contract' THEN (SELECT c.key FROM contract c WHERE c.id = r.id)
           WHEN 'vertical' THEN (SELECT v.key FROM vertical v WHERE v.id = r.id)
           WHEN 'day' THEN (date '2000-01-01' + r.id)::text
       END AS key,
       r.currency, r.reason, r.granted
FROM returned r
ORDER BY 1, 2, 4 DESC, 3

-- name: pnl
-- What was booked on days $1 to $2, by $3; the columns are those of the view report_pnl.
WITH booked AS (
    SELECT CASE $3::text
               WHEN 'source' THEN source_id WHEN 'seller' THEN seller_id
               WHEN 'vertical' THEN vertical_id WHEN 'day' THEN day - date '2000-01-01'
               WHEN 'buyer' THEN buyer_id WHEN 'contract' THEN contract_id
           END AS id,
           currency, kind, sum(cases)::bigint AS cases, sum(buyer_micros)::bigint AS buyer_micros,
           sum(seller_micros)::bigint AS seller_micros, sum(house_micros)::bigint AS house_micros
    FROM money_daily
    WHERE day BETWEEN $1 AND $2
    GROUP BY 1, 2, 3
),
told AS (
    SELECT id, currency,
           sum(cases) FILTER (WHERE kind = 'sale') AS sales,
           sum(buyer_micros) FILTER (WHERE kind = 'sale') AS revenue_micros,
           sum(seller_micros) FILTER (WHERE kind = 'sale') AS payout_micros,
           sum(house_micros) FILTER (WHERE kind = 'sale') AS fee_micros,
           sum(cases) FILTER (WHERE kind = 'return') AS credits,
           -sum(buyer_micros) FILTER (WHERE kind = 'return') AS credit_micros,
           -sum(seller_micros) FILTER (WHERE kind = 'return') AS clawback_micros,
           -sum(house_micros) FILTER (WHERE kind = 'bad_debt') AS bad_debt_micros,
           -sum(house_micros) FILTER (WHERE kind = 'reserve') AS reserved_micros,
           sum(house_micros) FILTER (
               WHERE kind NOT IN ('sale', 'return', 'bad_debt', 'reserve')
           ) AS other_micros,
           sum(house_micros) AS net_micros
    FROM booked
    GROUP BY id, currency
)
SELECT CASE $3::text
           WHEN 'source' THEN (SELECT e.key || '/' || o.key FROM source o JOIN seller e
                               ON e.id = o.seller_id WHERE o.id = t.id)
           WHEN 'seller' THEN (SELECT e.key FROM seller e WHERE e.id = t.id)
           WHEN 'buyer' THEN (SELECT b.key FROM buyer b WHERE b.id = t.id)
           WHEN 'contract' THEN (SELECT c.key FROM contract c WHERE c.id = t.id)
           WHEN 'vertical' THEN (SELECT v.key FROM vertical v WHERE v.id = t.id)
           WHEN 'day' THEN (date '2000-01-01' + t.id)::text
       END AS key,
       t.currency, coalesce(sales, 0)::bigint AS sales,
       coalesce(revenue_micros, 0)::bigint AS revenue_micros,
       coalesce(payout_micros, 0)::bigint AS payout_micros,
       coalesce(fee_micros, 0)::bigint AS fee_micros, coalesce(credits, 0)::bigint AS credits,
       coalesce(credit_micros, 0)::bigint AS credit_micros,
       coalesce(clawback_micros, 0)::bigint AS clawback_micros,
       coalesce(bad_debt_micros, 0)::bigint AS bad_debt_micros,
       coalesce(reserved_micros, 0)::bigint AS reserved_micros,
       coalesce(other_micros, 0)::bigint AS other_micros, net_micros::bigint AS net_micros
FROM told t
ORDER BY 1, 2

-- name: quality
-- Posts and returns of the leads of days $1 to $2, by source and contract.
WITH part AS (
    SELECT vertical_id, source_id, contract_id, sum(accepted)::bigint AS accepted,
           sum(rejected + not_sent + written_off)::bigint AS not_accepted, 0::bigint AS returned
    FROM trade_daily WHERE day BETWEEN $1 AND $2
    GROUP BY vertical_id, source_id, contract_id
    UNION ALL
    SELECT vertical_id, source_id, contract_id, 0, 0, sum(granted)::bigint
    FROM return_daily WHERE day BETWEEN $1 AND $2
    GROUP BY vertical_id, source_id, contract_id
),
pair AS (
    SELECT vertical_id, source_id, contract_id, sum(accepted)::bigint AS accepted,
           sum(not_accepted)::bigint AS not_accepted, sum(returned)::bigint AS returned
    FROM part
    GROUP BY vertical_id, source_id, contract_id
    HAVING sum(accepted + not_accepted) > 0
)
SELECT p.vertical_id, p.source_id, p.contract_id, v.key AS vertical,
       s.key || '/' || o.key AS source, c.key AS contract, p.accepted, p.not_accepted, p.returned
FROM pair p
JOIN vertical v ON v.id = p.vertical_id
JOIN source o ON o.id = p.source_id
JOIN seller s ON s.id = o.seller_id
JOIN contract c ON c.id = p.contract_id
ORDER BY p.vertical_id, p.source_id, p.contract_id

-- name: freshness
-- Up to when everything is in: the least of all.
SELECT min(until) FROM tally_progress WHERE name <> 'settled'

-- name: factors
-- How much a bid is worth, by vertical, source and contract.
SELECT vertical_id, source_id, contract_id, factor_millionths FROM quality_factor

-- name: forget_factors
-- A pair that no post was seen of any more is worth what its vertical is.
UPDATE quality_factor q
SET accept_millionths = m.accept_millionths, return_millionths = m.return_millionths,
    factor_millionths = m.factor_millionths, at = now()
FROM quality_factor m
WHERE m.vertical_id = q.vertical_id AND m.source_id = 0 AND m.contract_id = 0 AND q.source_id <> 0
  AND NOT EXISTS (
      SELECT FROM unnest($1::integer[], $2::integer[], $3::integer[]) AS k (v, s, c)
      WHERE k.v = q.vertical_id AND k.s = q.source_id AND k.c = q.contract_id
  )
  AND q.factor_millionths <> m.factor_millionths

-- name: save_factors
-- Factors made anew; those that stay the same are left alone.
INSERT INTO quality_factor AS q (
    vertical_id, source_id, contract_id, accept_millionths, return_millionths, factor_millionths
)
SELECT * FROM unnest(
    $1::integer[], $2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::integer[]
)
ON CONFLICT (vertical_id, source_id, contract_id) DO UPDATE
SET accept_millionths = excluded.accept_millionths,
    return_millionths = excluded.return_millionths,
    factor_millionths = excluded.factor_millionths, at = now()
WHERE (q.accept_millionths, q.return_millionths, q.factor_millionths)
    IS DISTINCT FROM
    (excluded.accept_millionths, excluded.return_millionths, excluded.factor_millionths)
