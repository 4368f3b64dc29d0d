-- The books against themselves: each query finds what cannot be if they hold. Together they recompute
-- every sale, credit and balance from transfers alone.

-- name: sums
-- By currency: transfers, what all accounts were debited and credited (equal, or one is no account of
-- this currency).
SELECT t.currency, count(*) AS transfers, sum(t.amount_micros)::bigint AS amount_micros,
       (coalesce(sum(t.amount_micros) FILTER (WHERE d.id IS NOT NULL), 0)
        - coalesce(sum(t.amount_micros) FILTER (WHERE c.id IS NOT NULL), 0))::bigint
           AS imbalance_micros,
       count(*) FILTER (WHERE d.id IS NULL OR c.id IS NULL) AS homeless
FROM transfer t
LEFT JOIN account d ON d.id = t.debit_account AND d.currency = t.currency
LEFT JOIN account c ON c.id = t.credit_account AND c.currency = t.currency
GROUP BY t.currency ORDER BY t.currency

-- name: attempts
-- By check: how many attempts were looked at, how many are wrong, and the first of them.
-- sale_booked_once: the legs of a sale make its price to the buyer and its payout to the seller, in
-- its currency; what is no sale has none. credited_as_booked: what other transfers of an attempt took
-- from the buyer, less what raised its price, is what the attempt says was credited.
-- credited_as_granted: and what granted returns and corrected prices say.
WITH booked AS (
    SELECT t.lead_id, t.day, t.attempt_id,
           sum(CASE WHEN t.code NOT IN (1, 2) THEN 0
                    WHEN d.kind = 'receivable' THEN t.amount_micros
                    WHEN c.kind = 'receivable' THEN -t.amount_micros ELSE 0 END) AS charged,
           sum(CASE WHEN t.code NOT IN (1, 2) THEN 0
                    WHEN c.kind = 'payable' THEN t.amount_micros
                    WHEN d.kind = 'payable' THEN -t.amount_micros ELSE 0 END) AS paid,
           sum(CASE WHEN t.code IN (1, 2) THEN 0
                    WHEN c.kind IN ('receivable', 'prepaid') THEN t.amount_micros
                    WHEN d.kind IN ('receivable', 'prepaid') THEN -t.amount_micros ELSE 0 END)
               AS credited,
           min(t.currency) AS currency, max(t.currency) AS other_currency,
           max(CASE WHEN d.kind = 'receivable' THEN d.party_id
                    WHEN c.kind = 'receivable' THEN c.party_id END) AS buyer_id,
           max(CASE WHEN c.kind = 'payable' THEN c.party_id
                    WHEN d.kind = 'payable' THEN d.party_id END) AS seller_id
    FROM transfer t
    JOIN account d ON d.id = t.debit_account
    JOIN account c ON c.id = t.credit_account
    WHERE t.attempt_id IS NOT NULL
    GROUP BY t.lead_id, t.day, t.attempt_id
),
granted AS (
    SELECT lead_id, day, attempt_id, sum(credit_micros) AS credit_micros, sum(raised_micros) AS raised
    FROM (
        SELECT lead_id, day, attempt_id, credit_micros, 0 AS raised_micros
        FROM return_case WHERE state = 'granted'
        UNION ALL
        SELECT lead_id, day, attempt_id, credited_micros, raised_micros FROM price_correction
    ) one
    GROUP BY lead_id, day, attempt_id
),
judged AS (
    SELECT a.attempt_id,
           CASE WHEN a.test THEN false
                WHEN a.state = 'sold'
                THEN coalesce(b.charged, 0) <> a.price_micros
                  OR coalesce(b.paid, 0) <> a.payout_micros
                  OR coalesce(b.buyer_id, a.buyer_id) <> a.buyer_id
                  OR coalesce(b.seller_id, a.seller_id) <> a.seller_id
                  OR coalesce(b.currency, a.currency) <> a.currency
                  OR coalesce(b.other_currency, a.currency) <> a.currency
                ELSE b.attempt_id IS NOT NULL END AS misbooked,
           coalesce(b.credited, 0) + coalesce(g.raised, 0) <> a.credited_micros AS miscredited,
           coalesce(g.credit_micros, 0) <> a.credited_micros AS misgranted
    FROM attempt a
    LEFT JOIN booked b ON b.lead_id = a.lead_id AND b.day = a.day AND b.attempt_id = a.attempt_id
    LEFT JOIN granted g ON g.lead_id = a.lead_id AND g.day = a.day AND g.attempt_id = a.attempt_id
)
SELECT v.name, count(*) AS looked, count(*) FILTER (WHERE v.wrong) AS wrong,
       coalesce((array_agg(j.attempt_id::text ORDER BY j.attempt_id) FILTER (WHERE v.wrong))[1:$1],
                '{}') AS first
FROM judged j
CROSS JOIN LATERAL (VALUES ('sale_booked_once', j.misbooked),
                           ('credited_as_booked', j.miscredited),
                           ('credited_as_granted', j.misgranted)) AS v (name, wrong)
GROUP BY v.name

-- name: reversals
-- Legs that are taken back: by no more than they are, on the same accounts the other way round, in
-- the same currency; and each reversal has a leg.
WITH back AS (
    SELECT r.lead_id, r.day, r.reverses, sum(r.amount_micros) AS amount_micros,
           min(r.transfer_id::text) AS transfer_id,
           bool_or(l.transfer_id IS NULL OR l.reverses IS NOT NULL OR l.currency <> r.currency
                   OR l.debit_account <> r.credit_account OR l.credit_account <> r.debit_account)
               AS stray,
           max(l.amount_micros) AS whole_micros
    FROM transfer r
    LEFT JOIN transfer l ON l.lead_id = r.lead_id AND l.day = r.day AND l.transfer_id = r.reverses
    WHERE r.reverses IS NOT NULL
    GROUP BY r.lead_id, r.day, r.reverses
)
SELECT count(*) AS looked,
       count(*) FILTER (WHERE stray OR amount_micros > whole_micros) AS wrong,
       coalesce((array_agg(transfer_id ORDER BY transfer_id)
                 FILTER (WHERE stray OR amount_micros > whole_micros))[1:$1], '{}') AS first
FROM back

-- name: guarantees
-- Leads that ended unsold under a guarantee have it booked once, in full; nobody else has it. A test
-- has none, nor a duplicate (its end says so), nor a lead that somebody had bought.
WITH owed AS (
    SELECT l.lead_id, l.day, (l.offer->>'guaranteed_micros')::bigint AS micros
    FROM lead l
    WHERE l.state IN ('unsold', 'erased') AND NOT l.test AND l.offer ? 'guaranteed_micros'
      AND NOT EXISTS (
          SELECT FROM attempt a
          WHERE a.lead_id = l.lead_id AND a.day = l.day AND a.state = 'sold'
      )
      AND EXISTS (
          SELECT FROM custody_event c
          WHERE c.lead_id = l.lead_id AND c.day = l.day AND c.kind = 'unsold'
      )
      AND NOT EXISTS (
          SELECT FROM attempt_event e
          WHERE e.lead_id = l.lead_id AND e.day = l.day AND e.attempt_id = l.lead_id
            AND e.detail ? 'duplicate'
      )
),
paid AS (
    SELECT lead_id, day, count(*) AS times, sum(amount_micros) AS micros
    FROM transfer WHERE code = 50 GROUP BY lead_id, day
),
judged AS (
    SELECT lead_id, p.times IS DISTINCT FROM 1 OR p.micros IS DISTINCT FROM o.micros AS wrong
    FROM owed o FULL JOIN paid p USING (lead_id, day)
)
SELECT count(*) AS looked, count(*) FILTER (WHERE wrong) AS wrong,
       coalesce((array_agg(lead_id::text ORDER BY lead_id) FILTER (WHERE wrong))[1:$1], '{}')
           AS first
FROM judged

-- name: owners
-- A lead is sold to one buyer at a time: of its sales at most as many as it may have were not given back
-- in full; and each later leg has the resale that began it.
WITH several AS (
    SELECT lead_id, day FROM attempt WHERE state = 'sold' GROUP BY lead_id, day HAVING count(*) > 1
),
sales AS (
    SELECT a.lead_id, a.day,
           count(*) FILTER (WHERE NOT is_returned(a.lead_id, a.day, a.attempt_id)) AS live
    FROM several s JOIN attempt a ON a.lead_id = s.lead_id AND a.day = s.day AND a.state = 'sold'
    GROUP BY a.lead_id, a.day
),
legs AS (
    SELECT DISTINCT a.lead_id, a.day, a.leg FROM attempt a WHERE a.leg > 1
),
judged AS (
    SELECT s.lead_id, s.live > l.max_sales AS wrong
    FROM sales s JOIN lead l ON l.lead_id = s.lead_id AND l.day = s.day
    UNION ALL
    SELECT g.lead_id, NOT EXISTS (
               SELECT FROM resale r
               WHERE r.lead_id = g.lead_id AND r.day = g.day AND r.leg = g.leg AND r.released)
    FROM legs g
)
SELECT count(*) AS looked, count(*) FILTER (WHERE wrong) AS wrong,
       coalesce((array_agg(DISTINCT lead_id::text) FILTER (WHERE wrong))[1:$1], '{}') AS first
FROM judged

-- name: settlements
-- Each part of a settled month has its one transfer to the seller, or from it; and each such transfer
-- its part.
WITH booked AS (
    SELECT t.lead_id AS settlement_id, count(*) AS times, min(t.currency) AS currency,
           sum(CASE WHEN c.kind = 'payable' THEN t.amount_micros ELSE -t.amount_micros END)
               AS micros,
           min(CASE WHEN c.kind = 'payable' THEN c.party_id ELSE d.party_id END) AS seller_id
    FROM transfer t
    JOIN account d ON d.id = t.debit_account
    JOIN account c ON c.id = t.credit_account
    WHERE t.code = 51
    GROUP BY t.lead_id
),
judged AS (
    SELECT settlement_id,
           b.times IS DISTINCT FROM 1 OR b.micros IS DISTINCT FROM s.booked_micros
           OR b.seller_id IS DISTINCT FROM s.seller_id OR b.currency IS DISTINCT FROM s.currency
               AS wrong
    FROM terms_settlement s FULL JOIN booked b USING (settlement_id)
)
SELECT count(*) AS looked, count(*) FILTER (WHERE wrong) AS wrong,
       coalesce((array_agg(settlement_id::text ORDER BY settlement_id)
                 FILTER (WHERE wrong))[1:$1], '{}') AS first
FROM judged

-- name: strays
-- Transfers of an attempt that is not there.
SELECT count(*) AS looked, count(*) FILTER (WHERE a.attempt_id IS NULL) AS wrong,
       coalesce((array_agg(t.transfer_id::text ORDER BY t.transfer_id)
                 FILTER (WHERE a.attempt_id IS NULL))[1:$1], '{}') AS first
FROM transfer t
LEFT JOIN attempt a ON a.lead_id = t.lead_id AND a.day = t.day AND a.attempt_id = t.attempt_id
WHERE t.attempt_id IS NOT NULL
