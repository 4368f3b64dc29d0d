-- Transfers that finance or a period's end book, within a transaction of the caller's.

-- name: accounts
-- The accounts that transfers name; made where there is none yet.
INSERT INTO account (party_id, kind, currency)
SELECT DISTINCT party_id, kind, currency
FROM unnest($1::integer[], $2::text[], $3::text[]) AS named (party_id, kind, currency)
ORDER BY party_id, kind, currency
ON CONFLICT (party_id, kind, currency) DO NOTHING

-- name: book
-- The transfers ($1, each naming its accounts by party and kind), all for one kind of subject ($2).
-- Booked before: nothing.
INSERT INTO transfer (
    transfer_id, lead_id, day, subject, attempt_id, code, debit_account, credit_account,
    amount_micros, currency, reverses, part, at
)
SELECT t.transfer_id, t.lead_id, lead_day(t.lead_id), $2, t.attempt_id, t.code, d.id, c.id,
       t.amount_micros, t.currency, t.reverses, t.part, t.at
FROM jsonb_to_recordset($1) AS t (
    transfer_id uuid, lead_id uuid, attempt_id uuid, code integer, debit_party integer,
    debit_kind text, credit_party integer, credit_kind text, amount_micros bigint, currency text,
    reverses uuid, part smallint, at timestamptz
)
JOIN account d ON (d.party_id, d.kind, d.currency) = (t.debit_party, t.debit_kind, t.currency)
JOIN account c ON (c.party_id, c.kind, c.currency) = (t.credit_party, t.credit_kind, t.currency)
ON CONFLICT (lead_id, day, transfer_id) DO NOTHING
