-- What is kept beside the transfers, against them: daily balances, closed periods, the reserve, what
-- was booked by hand, payments, caps. Each query: how much was looked at, how much is wrong, and the
-- first of it ($1).

-- name: rollups
-- Every account's day that counts as rolled up is what its transfers come to.
WITH edge AS (SELECT rolled_until('infinity') AS until),
truth AS (
    SELECT s.account_id, (t.at AT TIME ZONE 'UTC')::date AS day, sum(s.debit)::bigint AS debit,
           sum(s.credit)::bigint AS credit, count(*) AS number
    FROM transfer t
    CROSS JOIN LATERAL (
        VALUES (t.debit_account, t.amount_micros, 0), (t.credit_account, 0, t.amount_micros)
    ) AS s (account_id, debit, credit)
    WHERE t.at < (SELECT until FROM edge)
    GROUP BY 1, 2
),
kept AS (
    SELECT * FROM account_day
    WHERE transfers > 0 AND day < (SELECT (until AT TIME ZONE 'UTC')::date FROM edge)
),
judged AS (
    SELECT account_id, day,
           (t.debit, t.credit, t.number)
           IS DISTINCT FROM (k.debit_micros, k.credit_micros, k.transfers) AS wrong
    FROM truth t FULL JOIN kept k USING (account_id, day)
)
SELECT count(*) AS looked, count(*) FILTER (WHERE wrong) AS wrong,
       coalesce((array_agg('account ' || account_id || ' ' || day ORDER BY day, account_id)
                 FILTER (WHERE wrong))[1:$1], '{}') AS first
FROM judged

-- name: periods
-- Every account of a closed period moved by what its transfers say, no more and no less, and opened
-- with what it closed the period before with: so nothing was booked there since.
WITH shut AS (
    SELECT id, since, until, lag(id) OVER (ORDER BY from_day) AS earlier
    FROM period WHERE closed_at IS NOT NULL
),
truth AS (
    SELECT p.id AS period_id, s.account_id, sum(s.debit)::bigint AS debit,
           sum(s.credit)::bigint AS credit, count(*) AS number
    FROM shut p
    JOIN transfer t ON t.at >= p.since AND t.at < p.until
    CROSS JOIN LATERAL (
        VALUES (t.debit_account, t.amount_micros, 0), (t.credit_account, 0, t.amount_micros)
    ) AS s (account_id, debit, credit)
    GROUP BY 1, 2
),
before_first AS (
    SELECT s.account_id, sum(s.micros)::bigint AS micros
    FROM transfer t
    CROSS JOIN LATERAL (
        VALUES (t.debit_account, t.amount_micros), (t.credit_account, -t.amount_micros)
    ) AS s (account_id, micros)
    WHERE t.at < (SELECT min(since) FROM shut)
    GROUP BY 1
),
judged AS (
    SELECT p.id AS period_id, coalesce(t.account_id, b.account_id) AS account_id,
           (coalesce(t.debit, 0), coalesce(t.credit, 0), coalesce(t.number, 0))
           IS DISTINCT FROM (b.debit_micros, b.credit_micros, b.transfers)
           OR b.opening_micros <> CASE WHEN p.earlier IS NULL THEN coalesce(f.micros, 0)
                                       ELSE coalesce(e.closing_micros, 0) END AS wrong
    FROM truth t
    FULL JOIN (SELECT * FROM period_balance WHERE period_id IN (SELECT id FROM shut)) b
        ON b.period_id = t.period_id AND b.account_id = t.account_id
    JOIN shut p ON p.id = coalesce(t.period_id, b.period_id)
    LEFT JOIN period_balance e ON e.period_id = p.earlier AND e.account_id = b.account_id
    LEFT JOIN before_first f ON f.account_id = b.account_id
)
SELECT count(*) AS looked, count(*) FILTER (WHERE wrong) AS wrong,
       coalesce((array_agg('period ' || period_id || ' account ' || account_id
                           ORDER BY period_id, account_id) FILTER (WHERE wrong))[1:$1], '{}') AS first
FROM judged

-- name: reserve
-- By currency, the reserve holds what the last closed period set aside.
WITH held AS (
    SELECT t.currency,
           sum(CASE WHEN c.kind = 'reserve' THEN t.amount_micros ELSE 0 END
               - CASE WHEN d.kind = 'reserve' THEN t.amount_micros ELSE 0 END)::bigint AS micros
    FROM transfer t
    JOIN account d ON d.id = t.debit_account
    JOIN account c ON c.id = t.credit_account
    WHERE d.kind = 'reserve' OR c.kind = 'reserve'
    GROUP BY t.currency
),
due AS (
    SELECT currency, sum(amount_micros)::bigint AS micros FROM period_accrual
    WHERE period_id = (SELECT id FROM period WHERE closed_at IS NOT NULL ORDER BY from_day DESC LIMIT 1)
    GROUP BY currency
),
judged AS (
    SELECT currency, coalesce(h.micros, 0) <> coalesce(d.micros, 0) AS wrong
    FROM held h FULL JOIN due d USING (currency)
)
SELECT count(*) AS looked, count(*) FILTER (WHERE wrong) AS wrong,
       coalesce((array_agg(currency ORDER BY currency) FILTER (WHERE wrong))[1:$1], '{}') AS first
FROM judged

-- name: entries
-- What finance booked by hand has its one transfer, and such a transfer its entry.
WITH booked AS (
    SELECT lead_id, count(*) AS number, min(code) AS code, min(amount_micros) AS micros,
           min(currency) AS currency
    FROM transfer WHERE code IN (20, 30) GROUP BY lead_id
),
judged AS (
    SELECT coalesce(e.entry_id, b.lead_id) AS id,
           (b.number, b.code, b.micros, b.currency) IS DISTINCT FROM
           (1::bigint, CASE e.kind WHEN 'adjustment' THEN 20 WHEN 'write_off' THEN 30 END,
            abs(e.amount_micros), e.currency) AS wrong
    FROM book_entry e FULL JOIN booked b ON b.lead_id = e.entry_id
)
SELECT count(*) AS looked, count(*) FILTER (WHERE wrong) AS wrong,
       coalesce((array_agg(id::text ORDER BY id) FILTER (WHERE wrong))[1:$1], '{}') AS first
FROM judged

-- name: corrections
-- What a sale's corrections say is what their transfers moved; raises are never taken back twice.
WITH said AS (
    SELECT lead_id, attempt_id, sum(raised_micros)::bigint AS raised,
           sum(credited_micros)::bigint AS credited
    FROM price_correction GROUP BY 1, 2
),
booked AS (
    SELECT t.lead_id, t.attempt_id,
           sum(CASE WHEN d.kind = 'receivable' THEN t.amount_micros
                    WHEN c.kind = 'receivable' THEN -t.amount_micros ELSE 0 END)::bigint AS micros
    FROM transfer t
    JOIN account d ON d.id = t.debit_account
    JOIN account c ON c.id = t.credit_account
    WHERE t.code = 21
    GROUP BY 1, 2
),
judged AS (
    SELECT attempt_id, b.micros IS DISTINCT FROM s.raised - s.credited OR s.raised < 0 AS wrong
    FROM said s FULL JOIN booked b USING (lead_id, attempt_id)
)
SELECT count(*) AS looked, count(*) FILTER (WHERE wrong) AS wrong,
       coalesce((array_agg(attempt_id::text ORDER BY attempt_id) FILTER (WHERE wrong))[1:$1], '{}')
           AS first
FROM judged

-- name: payments
-- A payment moved its amount of cash, once and in its way; and no cash moved without a payment.
WITH cash AS (
    SELECT t.lead_id,
           sum(CASE WHEN d.kind = 'cash' THEN t.amount_micros ELSE 0 END
               - CASE WHEN c.kind = 'cash' THEN t.amount_micros ELSE 0 END)::bigint AS micros
    FROM transfer t
    JOIN account d ON d.id = t.debit_account
    JOIN account c ON c.id = t.credit_account
    WHERE d.kind = 'cash' OR c.kind = 'cash'
    GROUP BY t.lead_id
),
judged AS (
    SELECT coalesce(p.payment_id, k.lead_id) AS id,
           k.micros IS DISTINCT FROM
           CASE p.way WHEN 'received' THEN p.amount_micros ELSE -p.amount_micros END AS wrong
    FROM payment p FULL JOIN cash k ON k.lead_id = p.payment_id
)
SELECT count(*) AS looked, count(*) FILTER (WHERE wrong) AS wrong,
       coalesce((array_agg(id::text ORDER BY id) FILTER (WHERE wrong))[1:$1], '{}') AS first
FROM judged

-- name: claims
-- What a strict attempt claims of a cap is as it ended: used when sold, held while open, else released.
WITH judged AS (
    SELECT c.attempt_id, c.state <> CASE WHEN a.state = 'sold' THEN 'used'
                                         WHEN a.state IN ('posting', 'unknown') THEN 'held'
                                         ELSE 'released' END AS wrong
    FROM cap_claim c
    JOIN attempt a ON a.attempt_id = c.attempt_id AND a.lead_id = c.lead_id
    WHERE a.cap_mode = 'strict'
)
SELECT count(*) AS looked, count(*) FILTER (WHERE wrong) AS wrong,
       coalesce((array_agg(attempt_id::text ORDER BY attempt_id) FILTER (WHERE wrong))[1:$1], '{}')
           AS first
FROM judged

-- name: windows
-- What a cap's window has used is what strict attempts claim of it and have not given back, beside
-- what a change of the market carried over. A wallet's window is counted from another beginning, and
-- one that fast attempts count in is Valkey's.
WITH claimed AS (
    SELECT c.buyer_id, c.win, sum(c.amount) FILTER (WHERE c.state <> 'released') AS amount,
           bool_or(a.cap_mode <> 'strict') AS is_fast
    FROM cap_claim c
    JOIN attempt a ON a.attempt_id = c.attempt_id AND a.lead_id = c.lead_id
    GROUP BY c.buyer_id, c.win
),
judged AS (
    SELECT w.win, w.used - w.carried <> coalesce(c.amount, 0) AS wrong
    FROM cap_window w
    JOIN claimed c ON c.buyer_id = w.buyer_id AND c.win = w.win AND NOT c.is_fast
    WHERE NOT EXISTS (SELECT FROM wallet x WHERE x.buyer_id = w.buyer_id AND x.win = w.win)
)
SELECT count(*) AS looked, count(*) FILTER (WHERE wrong) AS wrong,
       coalesce((array_agg(win ORDER BY win) FILTER (WHERE wrong))[1:$1], '{}') AS first
FROM judged
