-- name: trade
-- What the tallies of days $1 to $2 say of trade, by $3, narrowed to a seller ($4) or buyer ($5).
SELECT CASE $3::text
           WHEN 'source' THEN seller || '/' || source WHEN 'seller' THEN seller
           WHEN 'buyer' THEN buyer WHEN 'contract' THEN contract WHEN 'vertical' THEN vertical
           WHEN 'day' THEN day::text WHEN 'reason' THEN reason
           WHEN 'pair' THEN seller || '/' || source || ' ' || contract
       END AS key,
       currency,
       sum(pings)::bigint AS pings, sum(offers)::bigint AS offers,
       sum(offered_micros)::bigint AS offered_micros, sum(late)::bigint AS late,
       sum(leads)::bigint AS leads, sum(invited)::bigint AS invited, sum(bids)::bigint AS bids,
       sum(bid_micros)::bigint AS bid_micros, sum(below_floor)::bigint AS below_floor,
       sum(no_bids)::bigint AS no_bids, sum(timeouts)::bigint AS timeouts,
       sum(errors)::bigint AS errors, sum(wins)::bigint AS wins,
       sum(waited_ms)::bigint AS waited_ms, sum(posts)::bigint AS posts,
       sum(accepted)::bigint AS accepted, sum(rejected)::bigint AS rejected,
       sum(not_sent)::bigint AS not_sent, sum(doubted)::bigint AS doubted,
       sum(written_off)::bigint AS written_off, sum(price_micros)::bigint AS price_micros,
       sum(payout_micros)::bigint AS payout_micros, sum(fee_micros)::bigint AS fee_micros,
       sum(asked)::bigint AS asked, sum(granted)::bigint AS granted,
       sum(refused)::bigint AS refused, sum(waiting)::bigint AS waiting,
       sum(credit_micros)::bigint AS credit_micros, sum(clawback_micros)::bigint AS clawback_micros
FROM report_trade
WHERE day BETWEEN $1 AND $2
  AND ($4::integer IS NULL OR seller_id = $4) AND ($5::integer IS NULL OR buyer_id = $5)
GROUP BY 1, 2
ORDER BY 1, 2

-- name: pnl
-- What was booked on days $1 to $2, by $3.
SELECT CASE $3::text
           WHEN 'source' THEN seller || '/' || source WHEN 'seller' THEN seller
           WHEN 'buyer' THEN buyer WHEN 'contract' THEN contract WHEN 'vertical' THEN vertical
           WHEN 'day' THEN day::text
       END AS key,
       currency, sum(sales)::bigint AS sales, sum(revenue_micros)::bigint AS revenue_micros,
       sum(payout_micros)::bigint AS payout_micros, sum(fee_micros)::bigint AS fee_micros,
       sum(credits)::bigint AS credits, sum(credit_micros)::bigint AS credit_micros,
       sum(clawback_micros)::bigint AS clawback_micros,
       sum(bad_debt_micros)::bigint AS bad_debt_micros,
       sum(reserved_micros)::bigint AS reserved_micros, sum(other_micros)::bigint AS other_micros,
       sum(net_micros)::bigint AS net_micros
FROM report_pnl
WHERE day BETWEEN $1 AND $2
GROUP BY 1, 2
ORDER BY 1, 2

-- name: reasons
-- Returns granted on days $1 to $2 by $3 and reason, narrowed as above.
SELECT CASE $3::text
           WHEN 'source' THEN seller || '/' || source WHEN 'seller' THEN seller
           WHEN 'buyer' THEN buyer WHEN 'contract' THEN contract WHEN 'vertical' THEN vertical
           WHEN 'day' THEN day::text
       END AS key,
       currency, reason, sum(granted)::bigint AS granted
FROM report_trade
WHERE day BETWEEN $1 AND $2 AND reason IS NOT NULL
  AND ($4::integer IS NULL OR seller_id = $4) AND ($5::integer IS NULL OR buyer_id = $5)
GROUP BY 1, 2, 3
HAVING sum(granted) > 0
ORDER BY 1, 2, 4 DESC, 3

-- name: quality
-- Posts and returns of the leads of days $1 to $2, by source and contract, and their verticals.
SELECT vertical_id, source_id, contract_id, min(vertical) AS vertical,
       min(seller || '/' || source) AS source, min(contract) AS contract,
       sum(accepted)::bigint AS accepted,
       sum(rejected + not_sent + written_off)::bigint AS not_accepted,
       sum(granted)::bigint AS returned
FROM report_trade
WHERE day BETWEEN $1 AND $2 AND contract_id IS NOT NULL
GROUP BY vertical_id, source_id, contract_id
HAVING sum(accepted + rejected + not_sent + written_off) > 0
ORDER BY vertical_id, source_id, contract_id

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
