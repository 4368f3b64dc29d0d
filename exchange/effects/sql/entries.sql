-- What finance books by hand: adjustments, write-offs, corrected prices.

-- name: party
-- Buyers and sellers of this key.
SELECT id, kind, key, name FROM party WHERE key = $1 AND kind IN ('buyer', 'seller') ORDER BY kind

-- name: lock
-- One write-off, match or refund of a party at a time.
SELECT lock_party_papers($1)

-- name: lock_sale
-- One decision on a sale ($1) at a time; its credit is compared when it is written, too.
SELECT pg_advisory_xact_lock(hashtextextended('exchange.correction.' || $1, 0))

-- name: owed
-- What a party ($1, a buyer or not: $2) owes the house in a currency ($3): of a buyer what is billed
-- less what it paid ahead, of a seller what it was paid too much. Only what lies on the account that
-- is written off counts.
WITH balance AS (
    SELECT a.kind, sum(side.micros)::bigint AS micros
    FROM account a
    JOIN transfer t ON a.id IN (t.debit_account, t.credit_account)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN t.debit_account = a.id THEN t.amount_micros ELSE -t.amount_micros END
    ) AS side (micros)
    WHERE a.party_id = $1 AND a.currency = $3
      AND a.kind IN ('receivable', 'prepaid', 'payable', 'clawback')
    GROUP BY a.kind
)
SELECT coalesce(least(
    sum(micros) FILTER (WHERE kind = CASE WHEN $2 THEN 'receivable' ELSE 'payable' END),
    sum(micros)), 0)::bigint AS micros
FROM balance

-- name: entry
-- An entry; of a key that is there nothing.
INSERT INTO book_entry (
    entry_id, key, kind, party_id, currency, amount_micros, cites, by, why, at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (key) DO NOTHING
RETURNING entry_id

-- name: keyed
-- The entry of a key.
SELECT e.entry_id::text, e.key, e.kind, e.party_id, p.kind AS party_kind, e.currency,
       e.amount_micros, e.cites, e.by, e.why, e.at
FROM book_entry e JOIN party p ON p.id = e.party_id
WHERE e.key = $1

-- name: sale
-- A sale by its id, with what its price was corrected by.
SELECT a.attempt_id::text, a.lead_id::text, a.buyer_id, a.seller_id, a.currency, a.price_micros,
       a.payout_micros, a.credited_micros, coalesce(k.raised, 0)::bigint AS raised_micros,
       coalesce(k.parts, 0) AS parts
FROM attempt a
LEFT JOIN LATERAL (
    SELECT sum(raised_micros) AS raised, count(*) AS parts FROM price_correction c
    WHERE c.lead_id = a.lead_id AND c.attempt_id = a.attempt_id
) k ON true
WHERE a.attempt_id = $1 AND a.state = 'sold' AND NOT a.test

-- name: correction_keyed
-- The correction of a key.
SELECT correction_id::text, key, lead_id::text, attempt_id::text, raised_micros, credited_micros,
       by, why, at
FROM price_correction WHERE key = $1

-- name: correct
-- A correction.
INSERT INTO price_correction (
    correction_id, key, lead_id, day, attempt_id, raised_micros, credited_micros, by, why, at
) VALUES ($1, $2, $3, lead_day($3), $4, $5, $6, $7, $8, $9)

-- name: credit
-- What the sale was credited in all, if nobody else credited it meanwhile.
UPDATE attempt SET credited_micros = $3 + $4, updated_at = now()
WHERE lead_id = $1 AND day = lead_day($1) AND attempt_id = $2 AND credited_micros = $3
RETURNING credited_micros

-- name: audit
-- What finance did, by whom.
INSERT INTO audit (by, action, subject, detail) VALUES ($1, $2, $3, $4)
