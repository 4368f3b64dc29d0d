-- name: begin
-- The first moment there can be a fact of: of the least ids; NULL when there are none.
SELECT least(
    (SELECT uuid_extract_timestamp(ping_id) FROM ping ORDER BY ping_id LIMIT 1),
    (SELECT uuid_extract_timestamp(lead_id) FROM lead ORDER BY lead_id LIMIT 1),
    (SELECT uuid_extract_timestamp(lead_id) FROM transfer ORDER BY lead_id LIMIT 1)
)

-- name: start
-- Where the tallies begin; harmless when they have begun.
INSERT INTO tally_progress (name, until)
SELECT * FROM unnest($1::text[], $2::timestamptz[])
ON CONFLICT DO NOTHING

-- name: progress
-- How far each kind of fact is in.
SELECT name, until FROM tally_progress

-- name: progress_held
-- The same, and nobody moves on before this transaction ends.
SELECT name, until FROM tally_progress ORDER BY name FOR UPDATE

-- name: advance
-- On to $3, if nobody else has moved on and the lease, if it is done under one, is still held; no row
-- else.
UPDATE tally_progress SET until = $3
WHERE name = $1 AND until = $2
  AND ($4::text IS NULL OR EXISTS (SELECT FROM job_lease WHERE job = $4 AND epoch = $5))
RETURNING name

-- name: currencies
-- The currencies of verticals by market version.
SELECT vertical_id, market_version, doc->>'currency' AS currency FROM vertical_version

-- name: pings
-- The journal of a part of one day ($1), from $2 to before $3.
SELECT seller_id, source_id, vertical_id, book_version, outcome = 'offer' AS has_offer,
       coalesce(payout_micros, 0) AS payout_micros, late_ms > 0 AS is_late, bids
FROM ping
WHERE day = $1 AND ping_id >= id_floor($2) AND ping_id < id_floor($3) AND NOT test

-- name: add_pings
-- Pings of day $1, added up.
INSERT INTO ping_daily AS t (
    day, seller_id, source_id, vertical_id, currency, pings, offers, offered_micros, late
)
SELECT $1, * FROM unnest(
    $2::integer[], $3::integer[], $4::integer[], $5::text[],
    $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[]
)
ON CONFLICT (day, source_id, vertical_id, currency) DO UPDATE
SET pings = t.pings + excluded.pings, offers = t.offers + excluded.offers,
    offered_micros = t.offered_micros + excluded.offered_micros, late = t.late + excluded.late

-- name: add_bids
-- Answers of day $1, added up.
INSERT INTO trade_daily AS t (
    day, seller_id, source_id, vertical_id, buyer_id, contract_id, currency, invited, bids,
    bid_micros, below_floor, no_bids, timeouts, errors, wins, waited_ms
)
SELECT $1, * FROM unnest(
    $2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::integer[], $7::text[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
    $14::bigint[], $15::bigint[], $16::bigint[]
)
ON CONFLICT (day, source_id, contract_id, vertical_id, currency) DO UPDATE
SET invited = t.invited + excluded.invited, bids = t.bids + excluded.bids,
    bid_micros = t.bid_micros + excluded.bid_micros,
    below_floor = t.below_floor + excluded.below_floor, no_bids = t.no_bids + excluded.no_bids,
    timeouts = t.timeouts + excluded.timeouts, errors = t.errors + excluded.errors,
    wins = t.wins + excluded.wins, waited_ms = t.waited_ms + excluded.waited_ms

-- name: add_leads
-- Leads of a part of one day ($1) by their ids, from $2 to before $3.
INSERT INTO ping_daily AS t (day, seller_id, source_id, vertical_id, currency, leads)
SELECT day, seller_id, source_id, vertical_id, currency, count(*)
FROM lead
WHERE day = $1 AND lead_id >= id_floor($2) AND lead_id < id_floor($3) AND NOT test
GROUP BY day, seller_id, source_id, vertical_id, currency
ON CONFLICT (day, source_id, vertical_id, currency) DO UPDATE
SET leads = t.leads + excluded.leads

-- name: add_posts
-- What happened to attempts from $1 to before $2, on the days of their leads ($3 to $4).
WITH happened AS MATERIALIZED (
    SELECT lead_id, day, attempt_id, state FROM attempt_event
    WHERE at >= $1 AND at < $2 AND day BETWEEN $3 AND $4
)
INSERT INTO trade_daily AS t (
    day, seller_id, source_id, vertical_id, buyer_id, contract_id, currency, posts, accepted,
    rejected, not_sent, doubted, written_off, price_micros, payout_micros, fee_micros
)
SELECT e.day, a.seller_id, l.source_id, l.vertical_id, a.buyer_id, a.contract_id, a.currency,
       count(*) FILTER (WHERE e.state = 'posting'),
       count(*) FILTER (WHERE e.state = 'sold'),
       count(*) FILTER (WHERE e.state = 'rejected'),
       count(*) FILTER (WHERE e.state = 'voided'),
       count(*) FILTER (WHERE e.state = 'unknown'),
       count(*) FILTER (WHERE e.state = 'written_off'),
       coalesce(sum(a.price_micros) FILTER (WHERE e.state = 'sold'), 0)::bigint,
       coalesce(sum(a.payout_micros) FILTER (WHERE e.state = 'sold'), 0)::bigint,
       coalesce(sum(a.fee_micros) FILTER (WHERE e.state = 'sold'), 0)::bigint
FROM happened e
JOIN attempt a ON a.lead_id = e.lead_id AND a.day = e.day AND a.attempt_id = e.attempt_id
JOIN lead l ON l.lead_id = e.lead_id AND l.day = e.day
WHERE a.day BETWEEN $3 AND $4 AND l.day BETWEEN $3 AND $4 AND NOT a.test
GROUP BY e.day, a.seller_id, l.source_id, l.vertical_id, a.buyer_id, a.contract_id, a.currency
ON CONFLICT (day, source_id, contract_id, vertical_id, currency) DO UPDATE
SET posts = t.posts + excluded.posts, accepted = t.accepted + excluded.accepted,
    rejected = t.rejected + excluded.rejected, not_sent = t.not_sent + excluded.not_sent,
    doubted = t.doubted + excluded.doubted, written_off = t.written_off + excluded.written_off,
    price_micros = t.price_micros + excluded.price_micros,
    payout_micros = t.payout_micros + excluded.payout_micros,
    fee_micros = t.fee_micros + excluded.fee_micros

-- name: days_of
-- The days of the leads that something happened to from $1 to before $2: what add_posts prunes by.
SELECT min(day) AS first, max(day) AS last FROM attempt_event WHERE at >= $1 AND at < $2

-- name: add_money
-- The transfers booked from $1 to before $2. Who has no lead is told from its accounts. Nothing is
-- booked before its subject was made: that spares later partitions.
WITH booked AS MATERIALIZED (
    SELECT t.*, d.kind AS debit_kind, d.party_id AS debit_party, c.kind AS credit_kind,
           c.party_id AS credit_party
    FROM transfer t
    JOIN account d ON d.id = t.debit_account
    JOIN account c ON c.id = t.credit_account
    WHERE t.at >= $1 AND t.at < $2 AND t.day <= ($2 AT TIME ZONE 'UTC')::date + 1
),
signed AS (
    SELECT b.*,
           (debit_kind IN ('receivable', 'prepaid'))::integer AS debits_buyer,
           (credit_kind IN ('receivable', 'prepaid'))::integer AS credits_buyer,
           (debit_kind IN ('payable', 'clawback'))::integer AS debits_seller,
           (credit_kind IN ('payable', 'clawback'))::integer AS credits_seller,
           (credit_kind = 'reserve')::integer - (debit_kind = 'reserve')::integer AS reserve,
           (debit_kind = 'cash')::integer - (credit_kind = 'cash')::integer AS cash
    FROM booked b
),
placed AS (
    SELECT (s.at AT TIME ZONE 'UTC')::date AS booked_day, s.currency, money_kind(s.code) AS kind,
           coalesce(l.seller_id, CASE WHEN debits_seller = 1 THEN debit_party
                                      WHEN credits_seller = 1 THEN credit_party END, 0) AS seller_id,
           coalesce(l.source_id, 0) AS source_id, coalesce(l.vertical_id, 0) AS vertical_id,
           coalesce(a.buyer_id, CASE WHEN debits_buyer = 1 THEN debit_party
                                     WHEN credits_buyer = 1 THEN credit_party END, 0) AS buyer_id,
           coalesce(a.contract_id, 0) AS contract_id,
           (coalesce(s.attempt_id, s.lead_id), s.part) AS one, s.amount_micros,
           s.amount_micros * (debits_buyer - credits_buyer) AS buyer_micros,
           s.amount_micros * (credits_seller - debits_seller) AS seller_micros,
           s.amount_micros * reserve AS reserve_micros, s.amount_micros * cash AS cash_micros
    FROM signed s
    LEFT JOIN lead l ON s.subject = 'lead' AND l.lead_id = s.lead_id AND l.day = s.day
                    AND l.day <= ($2 AT TIME ZONE 'UTC')::date + 1
    LEFT JOIN attempt a ON s.subject = 'lead' AND a.lead_id = s.lead_id AND a.day = s.day
                       AND a.day <= ($2 AT TIME ZONE 'UTC')::date + 1
                       AND a.attempt_id = s.attempt_id
)
INSERT INTO money_daily AS t (
    day, seller_id, source_id, vertical_id, buyer_id, contract_id, currency, kind, transfers, cases,
    amount_micros, buyer_micros, seller_micros, reserve_micros, cash_micros, house_micros
)
SELECT booked_day, seller_id, source_id, vertical_id, buyer_id, contract_id, currency, kind,
       count(*), count(DISTINCT one), sum(amount_micros)::bigint, sum(buyer_micros)::bigint,
       sum(seller_micros)::bigint, sum(reserve_micros)::bigint, sum(cash_micros)::bigint,
       sum(buyer_micros + cash_micros - seller_micros - reserve_micros)::bigint
FROM placed
GROUP BY booked_day, seller_id, source_id, vertical_id, buyer_id, contract_id, currency, kind
ON CONFLICT (day, kind, source_id, contract_id, seller_id, buyer_id, vertical_id, currency)
DO UPDATE
SET transfers = t.transfers + excluded.transfers, cases = t.cases + excluded.cases,
    amount_micros = t.amount_micros + excluded.amount_micros,
    buyer_micros = t.buyer_micros + excluded.buyer_micros,
    seller_micros = t.seller_micros + excluded.seller_micros,
    reserve_micros = t.reserve_micros + excluded.reserve_micros,
    cash_micros = t.cash_micros + excluded.cash_micros,
    house_micros = t.house_micros + excluded.house_micros

-- name: returned_days
-- The days of leads whose returns may have moved since $1: an open case may move at any moment.
SELECT DISTINCT day FROM return_case
WHERE requested_at >= $1 OR decided_at >= $1 OR state IN ('requested', 'referred', 'appealed')
ORDER BY day

-- name: recount_returns
-- The returns of one day's leads as they stand. A case keeps its sale and its reason, so no row is
-- left behind.
INSERT INTO return_daily AS t (
    day, seller_id, source_id, vertical_id, buyer_id, contract_id, currency, reason, asked, granted,
    refused, waiting, credit_micros, clawback_micros
)
SELECT c.day, c.seller_id, l.source_id, l.vertical_id, c.buyer_id, c.contract_id, c.currency,
       c.reason, count(*),
       count(*) FILTER (WHERE c.state = 'granted'),
       count(*) FILTER (WHERE c.state IN ('denied', 'lapsed')),
       count(*) FILTER (WHERE c.state IN ('requested', 'referred', 'appealed')),
       coalesce(sum(c.credit_micros) FILTER (WHERE c.state = 'granted'), 0)::bigint,
       coalesce(sum(c.clawback_micros) FILTER (WHERE c.state = 'granted'), 0)::bigint
FROM return_case c
JOIN lead l ON l.lead_id = c.lead_id AND l.day = c.day
WHERE c.lead_id >= id_floor($1::date::timestamp AT TIME ZONE 'UTC')
  AND c.lead_id < id_floor(($1::date + 1)::timestamp AT TIME ZONE 'UTC')
  AND l.day = $1 AND NOT c.test
GROUP BY c.day, c.seller_id, l.source_id, l.vertical_id, c.buyer_id, c.contract_id, c.currency,
         c.reason
ON CONFLICT (day, source_id, contract_id, vertical_id, currency, reason) DO UPDATE
SET asked = excluded.asked, granted = excluded.granted, refused = excluded.refused,
    waiting = excluded.waiting, credit_micros = excluded.credit_micros,
    clawback_micros = excluded.clawback_micros
WHERE (t.asked, t.granted, t.refused, t.waiting, t.credit_micros, t.clawback_micros)
    IS DISTINCT FROM (excluded.asked, excluded.granted, excluded.refused, excluded.waiting,
                      excluded.credit_micros, excluded.clawback_micros)

-- name: clear_pings
-- A day's pings count nothing, to be added again.
UPDATE ping_daily SET pings = 0, offers = 0, offered_micros = 0, late = 0, leads = 0 WHERE day = $1

-- name: clear_trade
-- A day's bids and posts count nothing.
UPDATE trade_daily SET
    invited = 0, bids = 0, bid_micros = 0, below_floor = 0, no_bids = 0, timeouts = 0, errors = 0,
    wins = 0, waited_ms = 0, posts = 0, accepted = 0, rejected = 0, not_sent = 0, doubted = 0,
    written_off = 0, price_micros = 0, payout_micros = 0, fee_micros = 0
WHERE day = $1

-- name: clear_money
-- A day's money counts nothing.
UPDATE money_daily SET
    transfers = 0, cases = 0, amount_micros = 0, buyer_micros = 0, seller_micros = 0,
    reserve_micros = 0, cash_micros = 0, house_micros = 0
WHERE day = $1

-- name: facts_of_day
-- What the facts of day $1 count, those that are to be in: pings before $2, leads before $3, events
-- before $4, transfers before $5.
SELECT
    (SELECT count(*) FROM ping WHERE day = $1 AND ping_id < id_floor($2) AND NOT test) AS pings,
    (SELECT count(*) FROM lead WHERE day = $1 AND lead_id < id_floor($3) AND NOT test) AS leads,
    (SELECT count(*) FROM attempt_event e
     JOIN attempt a ON a.lead_id = e.lead_id AND a.day = e.day AND a.attempt_id = e.attempt_id
     WHERE e.day = $1 AND a.day = $1 AND e.at < $4 AND NOT a.test
       AND e.state IN ('posting', 'sold', 'rejected', 'voided', 'unknown', 'written_off')) AS events,
    (SELECT count(*) FROM transfer
     WHERE at >= $1::date::timestamp AT TIME ZONE 'UTC'
       AND at < least(($1::date + 1)::timestamp AT TIME ZONE 'UTC', $5)) AS transfers,
    (SELECT coalesce(sum(amount_micros), 0)::bigint FROM transfer
     WHERE at >= $1::date::timestamp AT TIME ZONE 'UTC'
       AND at < least(($1::date + 1)::timestamp AT TIME ZONE 'UTC', $5)) AS amount_micros

-- name: tally_of_day
-- What the tallies of day $1 count.
SELECT
    (SELECT coalesce(sum(pings), 0)::bigint FROM ping_daily WHERE day = $1) AS pings,
    (SELECT coalesce(sum(leads), 0)::bigint FROM ping_daily WHERE day = $1) AS leads,
    (SELECT coalesce(sum(posts + accepted + rejected + not_sent + doubted + written_off), 0)::bigint
     FROM trade_daily WHERE day = $1) AS events,
    (SELECT coalesce(sum(transfers), 0)::bigint FROM money_daily WHERE day = $1) AS transfers,
    (SELECT coalesce(sum(amount_micros), 0)::bigint FROM money_daily WHERE day = $1) AS amount_micros
