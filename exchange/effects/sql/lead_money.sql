-- What a lead's transfers come to on its three sides: debits less credits of its buyer, its seller and
-- the house. They sum to nothing.

-- name: lead
-- Every transfer of a lead ($1), in order.
SELECT t.at, t.code, t.attempt_id::text, t.currency, t.amount_micros,
       dp.kind AS debit_party_kind, dp.key AS debit_party, d.kind AS debit_kind,
       cp.kind AS credit_party_kind, cp.key AS credit_party, c.kind AS credit_kind
FROM transfer t
JOIN account d ON d.id = t.debit_account JOIN party dp ON dp.id = d.party_id
JOIN account c ON c.id = t.credit_account JOIN party cp ON cp.id = c.party_id
WHERE t.lead_id = $1 AND t.day = lead_day($1)
ORDER BY t.at, t.code, t.transfer_id

-- name: leads
-- By sale, of the leads of some days ($1 to $2, UTC): what was sold, returned, corrected and clawed
-- back, and where each side stands.
WITH side AS (
    SELECT t.lead_id, t.attempt_id, t.currency, t.at, t.code, p.kind AS who, p.key, s.micros
    FROM transfer t
    CROSS JOIN LATERAL (
        VALUES (t.debit_account, t.amount_micros), (t.credit_account, -t.amount_micros)
    ) AS s (account_id, micros)
    JOIN account a ON a.id = s.account_id
    JOIN party p ON p.id = a.party_id
    WHERE t.subject = 'lead' AND t.day BETWEEN $1 AND $2
)
SELECT s.lead_id::text, coalesce(s.attempt_id::text, '') AS sale_id, min(s.at) AS at,
       coalesce(max(s.key) FILTER (WHERE s.who = 'buyer'), '') AS buyer,
       coalesce(max(s.key) FILTER (WHERE s.who = 'seller'), '') AS seller, s.currency,
       coalesce(sum(s.micros) FILTER (WHERE s.who = 'buyer' AND s.code IN (1, 2)), 0)::bigint AS price,
       coalesce(-sum(s.micros) FILTER (WHERE s.who = 'seller' AND s.code = 1), 0)::bigint AS payout,
       coalesce(-sum(s.micros) FILTER (WHERE s.who = 'buyer' AND s.code NOT IN (1, 2, 21)), 0)::bigint
           AS returned,
       coalesce(sum(s.micros) FILTER (WHERE s.who = 'seller' AND s.code NOT IN (1, 21)), 0)::bigint
           AS clawed_back,
       coalesce(sum(s.micros) FILTER (WHERE s.who = 'buyer' AND s.code = 21), 0)::bigint AS corrected,
       coalesce(sum(s.micros) FILTER (WHERE s.who = 'buyer'), 0)::bigint AS buyer_micros,
       coalesce(sum(s.micros) FILTER (WHERE s.who = 'seller'), 0)::bigint AS seller_micros,
       coalesce(sum(s.micros) FILTER (WHERE s.who = 'house'), 0)::bigint AS house_micros
FROM side s
GROUP BY s.lead_id, s.attempt_id, s.currency
ORDER BY s.lead_id, s.attempt_id
