-- Payments, what they cover, and what is open.

-- name: lock
-- Whoever records, matches, refunds or cancels for a party waits for the others who do.
SELECT lock_party_papers($1)

-- name: by_key
-- The payment recorded under a key.
SELECT payment_id::text, key, way, party_id, currency, amount_micros, value_day, reference, by, at,
       returns::text
FROM payment WHERE key = $1

-- name: one
-- A payment by its id.
SELECT payment_id::text, key, way, party_id, currency, amount_micros, value_day, reference, by, at,
       returns::text
FROM payment WHERE payment_id = $1

-- name: came_back
-- Whether a payout came back.
SELECT true FROM payment WHERE returns = $1

-- name: of_buyer
-- What a buyer paid in a currency, the oldest first.
SELECT payment_id::text, key, way, party_id, currency, amount_micros, value_day, reference, by, at,
       returns::text
FROM payment WHERE party_id = $1 AND currency = $2 AND way = 'received' ORDER BY payment_id

-- name: matches
-- What these payments cover.
SELECT m.payment_id::text, m.part, m.amount_micros, m.code, m.by, m.at, m.document_id::text,
       m.refund_id::text, coalesce(d.number, '') AS number, u.payment_id IS NOT NULL AS undone
FROM payment_match m
LEFT JOIN payment_unmatch u USING (payment_id, part)
LEFT JOIN document d ON d.document_id = m.document_id
WHERE m.payment_id = ANY ($1::uuid[])
ORDER BY m.payment_id, m.part

-- name: papers
-- Documents in force as they stood before a moment ($4): of a party ($1; all where null), of these
-- kinds ($2), in a currency ($3; all where null).
SELECT d.document_id::text, d.number, d.kind, d.party_id, d.currency, d.issued_on, d.due_on,
       d.total_micros, coalesce(m.paid_micros, 0)::bigint AS paid_micros, d.cites, d.cited_micros
FROM document d
LEFT JOIN (
    SELECT m.document_id, sum(m.amount_micros) AS paid_micros
    FROM payment_match m LEFT JOIN payment_unmatch u USING (payment_id, part)
    WHERE m.at < $4 AND (u.at IS NULL OR u.at >= $4) AND m.document_id IS NOT NULL
    GROUP BY m.document_id
) m ON m.document_id = d.document_id
WHERE ($1::integer IS NULL OR d.party_id = $1) AND d.kind = ANY ($2::text[])
  AND ($3::text IS NULL OR d.currency = $3) AND d.issued_at < $4
  AND NOT EXISTS (SELECT FROM document c WHERE c.cancels = d.document_id AND c.issued_at < $4)
ORDER BY d.party_id, d.currency, d.due_on, d.number

-- name: record
-- A payment.
INSERT INTO payment (payment_id, key, way, party_id, currency, amount_micros, value_day, reference, by,
                     at, returns)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: match
-- What part of it covers.
INSERT INTO payment_match (payment_id, part, document_id, refund_id, amount_micros, code, by, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: unmatch
-- A match that was wrong.
INSERT INTO payment_unmatch (payment_id, part, by, why, at) VALUES ($1, $2, $3, $4, $5)

-- name: account
-- An account, made where there is none yet.
INSERT INTO account (party_id, kind, currency) VALUES ($1, $2, $3)
ON CONFLICT (party_id, kind, currency) DO NOTHING

-- name: book
-- A transfer of a payment.
INSERT INTO transfer (transfer_id, lead_id, day, subject, code, debit_account, credit_account,
                      amount_micros, currency, reverses, part, at)
SELECT $1, $2, lead_day($2), 'payment', $3, d.id, c.id, $8, $9, $10, $11, $12
FROM account d, account c
WHERE (d.party_id, d.kind, d.currency) = ($4, $5, $9) AND (c.party_id, c.kind, c.currency) = ($6, $7, $9)
ON CONFLICT (lead_id, day, transfer_id) DO NOTHING

-- name: audit
-- Who did what.
INSERT INTO audit (by, action, subject, detail) VALUES ($1, $2, $3, $4)

-- name: listing
-- Payments, the newest first: of a party ($1), only those with a rest that covers nothing ($2), before
-- one ($3), at most $4.
SELECT p.payment_id::text, p.key, p.way, p.party_id, p.currency, p.amount_micros, p.value_day,
       p.reference, p.by, p.at, p.returns::text, y.key AS party, y.kind AS party_kind,
       EXISTS (SELECT FROM payment r WHERE r.returns = p.payment_id) AS came_back
FROM payment p JOIN party y ON y.id = p.party_id
WHERE ($1::integer IS NULL OR p.party_id = $1)
  AND (NOT $2 OR (
      p.way IN ('received', 'paid_out')
      AND NOT EXISTS (SELECT FROM payment r WHERE r.returns = p.payment_id)
      AND p.amount_micros > (
          SELECT coalesce(sum(m.amount_micros), 0) FROM payment_match m
          LEFT JOIN payment_unmatch u USING (payment_id, part)
          WHERE m.payment_id = p.payment_id AND u.payment_id IS NULL)))
  AND ($3::uuid IS NULL OR p.payment_id < $3)
ORDER BY p.payment_id DESC
LIMIT $4

-- name: balances
-- Buyers' ($1; all where null) receivable and prepaid balances before a moment ($2, its day in UTC $3),
-- what sales, returns and corrections moved, and what was written off.
WITH own AS MATERIALIZED (
    SELECT a.id, a.kind, a.currency, p.id AS party_id, p.key
    FROM account a JOIN party p ON p.id = a.party_id
    WHERE p.kind = 'buyer' AND a.kind IN ('receivable', 'prepaid') AND ($1::integer IS NULL OR p.id = $1)
),
leg AS (
    SELECT t.debit_account AS account, t.subject, t.code, t.amount_micros AS micros
    FROM transfer t WHERE t.at < $2 AND t.day <= $3
    UNION ALL
    SELECT t.credit_account, t.subject, t.code, -t.amount_micros
    FROM transfer t WHERE t.at < $2 AND t.day <= $3
)
SELECT o.party_id, o.key AS party, o.currency,
       coalesce(sum(l.micros) FILTER (WHERE o.kind = 'receivable'), 0)::bigint AS receivable_micros,
       coalesce(-sum(l.micros) FILTER (WHERE o.kind = 'prepaid'), 0)::bigint AS prepaid_micros,
       coalesce(sum(l.micros) FILTER (WHERE o.kind = 'receivable' AND l.subject <> 'payment'
                                      AND l.code NOT IN (30, 130)), 0)::bigint AS traded_micros,
       coalesce(-sum(l.micros) FILTER (WHERE o.kind = 'receivable' AND l.code IN (30, 130)), 0)::bigint
           AS written_off_micros
FROM leg l JOIN own o ON o.id = l.account
GROUP BY o.party_id, o.key, o.currency
ORDER BY o.key, o.currency

-- name: payables
-- By seller and currency before a moment ($1, its day in UTC $2): what statements in force that are due
-- on a day ($3) come to, what was moved after them, what was paid, and how often.
WITH own AS MATERIALIZED (
    SELECT a.id, a.party_id, a.currency
    FROM account a JOIN party p ON p.id = a.party_id
    WHERE p.kind = 'seller' AND a.kind IN ('payable', 'clawback')
),
settled AS MATERIALIZED (
    SELECT DISTINCT ON (d.party_id, d.currency) d.party_id, d.currency, d.until, d.number
    FROM document d
    WHERE d.kind = 'payout_statement' AND d.due_on <= $3 AND d.issued_at < $1
      AND NOT EXISTS (SELECT FROM document c WHERE c.cancels = d.document_id)
    ORDER BY d.party_id, d.currency, d.until DESC
),
leg AS (
    SELECT t.credit_account AS account, t.subject, t.at, t.amount_micros AS micros
    FROM transfer t WHERE t.at < $1 AND t.day <= $2
    UNION ALL
    SELECT t.debit_account, t.subject, t.at, -t.amount_micros
    FROM transfer t WHERE t.at < $1 AND t.day <= $2
)
SELECT o.party_id, o.currency, s.number AS statement,
       coalesce(sum(l.micros) FILTER (WHERE l.subject <> 'payment' AND l.at < s.until), 0)::bigint
           AS settled_micros,
       coalesce(sum(l.micros) FILTER (WHERE l.subject <> 'payment'
                                      AND (s.until IS NULL OR l.at >= s.until)), 0)::bigint AS since_micros,
       coalesce(sum(l.micros) FILTER (WHERE l.subject = 'payment'), 0)::bigint AS paid_micros,
       (SELECT count(*) FROM payment p WHERE p.party_id = o.party_id AND p.currency = o.currency
                                         AND p.way = 'paid_out')::integer AS payments
FROM leg l JOIN own o ON o.id = l.account
LEFT JOIN settled s ON s.party_id = o.party_id AND s.currency = o.currency
GROUP BY o.party_id, o.currency, s.number
ORDER BY o.party_id, o.currency

-- name: holds
-- What incidents keep back of payouts.
SELECT party_id, currency, amount_micros FROM payout_hold WHERE lifted_at IS NULL

-- name: moved
-- What transfers from a moment ($1) until before another ($2, its day in UTC $3) moved between accounts,
-- by day of a zone ($4), currency and code.
SELECT (t.at AT TIME ZONE $4)::date AS day, t.currency, t.code,
       d.kind AS debit_kind, CASE WHEN dp.id = 1 THEN '' ELSE dp.key END AS debit_name,
       c.kind AS credit_kind, CASE WHEN cp.id = 1 THEN '' ELSE cp.key END AS credit_name,
       sum(t.amount_micros)::bigint AS amount_micros
FROM transfer t
JOIN account d ON d.id = t.debit_account JOIN party dp ON dp.id = d.party_id
JOIN account c ON c.id = t.credit_account JOIN party cp ON cp.id = c.party_id
WHERE t.at >= $1 AND t.at < $2 AND t.day <= $3
GROUP BY 1, 2, 3, 4, 5, 6, 7
