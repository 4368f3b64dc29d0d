-- The books beside one another, for a buyer ($1) or for all: each query says how much was looked at,
-- how much is wrong, and of the first $2 that are, which buyer's, which, and what each side says.

-- name: ledger
-- Attempts against transfers: a sale is billed at its price less what was credited, and what raised the
-- price after the fact; what is no sale is not billed. Both stand in one commit, so nothing is under
-- way here.
WITH judged AS (
    SELECT a.buyer_id, a.attempt_id, a.state,
           CASE WHEN a.state = 'sold'
                THEN a.price_micros - a.credited_micros + coalesce(p.raised, 0) ELSE 0 END AS owed,
           coalesce(b.billed, 0) AS billed
    FROM attempt a
    LEFT JOIN LATERAL (
        SELECT sum(CASE WHEN d.party_id = a.buyer_id AND d.kind IN ('receivable', 'prepaid')
                        THEN t.amount_micros ELSE 0 END
                   - CASE WHEN c.party_id = a.buyer_id AND c.kind IN ('receivable', 'prepaid')
                          THEN t.amount_micros ELSE 0 END) AS billed
        FROM transfer t
        JOIN account d ON d.id = t.debit_account
        JOIN account c ON c.id = t.credit_account
        WHERE t.lead_id = a.lead_id AND t.day = a.day AND t.attempt_id = a.attempt_id
    ) b ON true
    LEFT JOIN LATERAL (
        SELECT sum(c.raised_micros) AS raised FROM price_correction c
        WHERE c.lead_id = a.lead_id AND c.day = a.day AND c.attempt_id = a.attempt_id
    ) p ON true
    WHERE ($1::integer IS NULL OR a.buyer_id = $1) AND NOT a.test
)
SELECT count(*) AS looked, count(*) FILTER (WHERE owed <> billed) AS wrong,
       (array_agg(jsonb_build_object(
            'buyer_id', buyer_id, 'subject', attempt_id, 'ours', owed, 'theirs', billed,
            'state', state) ORDER BY attempt_id) FILTER (WHERE owed <> billed))[1:$2] AS first
FROM judged

-- name: claims
-- Attempts under strict caps against their claims: held while under way, used once sold (or given back
-- with a return), given back otherwise. One commit again.
WITH judged AS (
    SELECT a.buyer_id, a.attempt_id, a.state, w->>0 AS win, coalesce(k.state, 'none') AS claim,
           CASE WHEN a.state = 'sold'
                THEN coalesce(k.state = 'used' OR k.state = 'released' AND a.credited_micros > 0, false)
                WHEN a.state IN ('posting', 'unknown') THEN coalesce(k.state = 'held', false)
                ELSE coalesce(k.state = 'released', true) END AS holds
    FROM attempt a
    CROSS JOIN jsonb_array_elements(a.windows) AS w
    LEFT JOIN cap_claim k
        ON k.buyer_id = a.buyer_id AND k.win = w->>0 AND k.attempt_id = a.attempt_id
    WHERE ($1::integer IS NULL OR a.buyer_id = $1) AND NOT a.test AND a.cap_mode = 'strict'
)
SELECT count(*) AS looked, count(*) FILTER (WHERE NOT holds) AS wrong,
       (array_agg(jsonb_build_object(
            'buyer_id', buyer_id, 'subject', attempt_id, 'win', win, 'state', state, 'claim', claim)
            ORDER BY attempt_id) FILTER (WHERE NOT holds))[1:$2] AS first
FROM judged

-- name: windows
-- The fence of each cap window against its claims and what a recount carried. Wallets are compared
-- with the ledger apart; a window at zero may have been carried below it.
WITH claimed AS (
    SELECT buyer_id, win, sum(amount) AS amount FROM cap_claim
    WHERE state <> 'released' AND ($1::integer IS NULL OR buyer_id = $1) GROUP BY buyer_id, win
),
judged AS (
    SELECT c.buyer_id, c.win, c.used, coalesce(k.amount, 0) + c.carried AS counted
    FROM cap_window c LEFT JOIN claimed k USING (buyer_id, win)
    WHERE ($1::integer IS NULL OR c.buyer_id = $1)
      AND NOT EXISTS (SELECT FROM wallet w WHERE w.buyer_id = c.buyer_id AND w.win = c.win)
)
SELECT count(*) AS looked, count(*) FILTER (WHERE used <> greatest(counted, 0)) AS wrong,
       (array_agg(jsonb_build_object(
            'buyer_id', buyer_id, 'subject', win, 'ours', counted, 'theirs', used)
            ORDER BY buyer_id, win) FILTER (WHERE used <> greatest(counted, 0)))[1:$2] AS first
FROM judged

-- name: journal
-- Sales against the journal: the lead's ping is there, of the same seller and source, and the contract
-- bid what it is billed. Not compared: sales younger than $3 seconds (the journal is written behind),
-- those of days whose pings are kept no more, and, as to the bid, leads sold later than $4 seconds
-- after their ping: they were offered again.
WITH kept AS (SELECT min(day) AS first FROM ping),
judged AS (
    SELECT a.buyer_id, a.attempt_id, a.price_micros,
           CASE WHEN p.ping_id IS NULL THEN 'no ping of it is in the journal'
                WHEN (p.seller_id, p.source_id, p.vertical_id, p.test)
                     IS DISTINCT FROM (l.seller_id, l.source_id, l.vertical_id, l.test)
                THEN 'its ping is of another source'
                WHEN a.created_at > p.received_at + make_interval(secs => $4) THEN NULL
                WHEN NOT EXISTS (
                    SELECT FROM jsonb_array_elements(
                        convert_from(p.bids, 'UTF8')::jsonb -> 'ranking') AS r
                    WHERE (r ->> 'contract_id')::integer = a.contract_id
                      AND (r ->> 'price_micros')::bigint = a.price_micros)
                THEN 'the journal has no such bid' END AS flaw
    FROM attempt a
    JOIN lead l ON l.lead_id = a.lead_id AND l.day = a.day
    LEFT JOIN ping p ON p.ping_id = a.lead_id AND p.day = a.day
    WHERE ($1::integer IS NULL OR a.buyer_id = $1) AND NOT a.test AND a.state = 'sold'
      AND a.created_at < now() - make_interval(secs => $3) AND a.day >= (SELECT first FROM kept)
)
SELECT count(*) AS looked, count(*) FILTER (WHERE flaw IS NOT NULL) AS wrong,
       (array_agg(jsonb_build_object('buyer_id', buyer_id, 'subject', attempt_id, 'flaw', flaw)
            ORDER BY attempt_id) FILTER (WHERE flaw IS NOT NULL))[1:$2] AS first
FROM judged
