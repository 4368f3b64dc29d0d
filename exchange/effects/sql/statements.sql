-- What the books say of one party: its balances, and the transfers of a period.

-- name: party
-- Buyers and sellers of this key, and the zone that a buyer's terms name.
SELECT p.id, p.kind, p.key, p.name, v.doc ->> 'time_zone' AS time_zone
FROM party p
LEFT JOIN LATERAL (
    SELECT doc FROM buyer_version WHERE buyer_id = p.id ORDER BY version DESC LIMIT 1
) v ON true
WHERE p.key = $1 AND p.kind IN ('buyer', 'seller')
ORDER BY p.kind

-- name: accounts
-- A party's accounts.
SELECT id, kind, currency FROM account WHERE party_id = $1

-- name: balances
-- What was debited to these accounts and credited to them before a moment ($2): the days that are
-- rolled up, then the transfers after them. A transfer is no older than its lead, so the days after $3
-- (the moment's, in UTC) need not be looked at.
SELECT account, sum(debit)::bigint AS debit_micros, sum(credit)::bigint AS credit_micros
FROM (
    SELECT d.account_id AS account, d.debit_micros AS debit, d.credit_micros AS credit
    FROM account_day d
    WHERE d.account_id = ANY($1::bigint[])
      AND d.day < (SELECT (rolled_until($2) AT TIME ZONE 'UTC')::date)
    UNION ALL
    SELECT t.debit_account, t.amount_micros, 0 FROM transfer t
    WHERE t.debit_account = ANY($1::bigint[])
      AND t.at >= (SELECT rolled_until($2)) AND t.at < $2 AND t.day <= $3
    UNION ALL
    SELECT t.credit_account, 0, t.amount_micros FROM transfer t
    WHERE t.credit_account = ANY($1::bigint[])
      AND t.at >= (SELECT rolled_until($2)) AND t.at < $2 AND t.day <= $3
) side
GROUP BY account

-- name: entries
-- The transfers of these accounts from a moment ($2) until before another ($3, its day in UTC $4),
-- each with what it is for. $5: the reference is the buyer's own, else the seller's; of a month's
-- terms it is the month and the step reached.
WITH side AS (
    SELECT t.debit_account AS account, true AS is_debit, t.* FROM transfer t
    WHERE t.debit_account = ANY($1::bigint[]) AND t.at >= $2 AND t.at < $3 AND t.day <= $4
    UNION ALL
    SELECT t.credit_account, false, t.* FROM transfer t
    WHERE t.credit_account = ANY($1::bigint[]) AND t.at >= $2 AND t.at < $3 AND t.day <= $4
)
SELECT s.account, s.is_debit, s.transfer_id::text, s.at, s.subject, s.code, s.lead_id::text,
       s.attempt_id::text, s.currency, s.amount_micros, coalesce(c.key, '') AS contract,
       coalesce(CASE WHEN $5 THEN a.buyer_ref ELSE l.external_id END, m.month || ': ' || m.words, '')
           AS reference
FROM side s
LEFT JOIN attempt a ON a.lead_id = s.lead_id AND a.day = s.day AND a.attempt_id = s.attempt_id
LEFT JOIN lead l ON l.lead_id = s.lead_id AND l.day = s.day AND NOT $5
LEFT JOIN contract c ON c.id = a.contract_id
LEFT JOIN terms_settlement m ON s.subject = 'document' AND m.settlement_id = s.lead_id
