-- name: ping
-- The ping and its auction, if the journal has it.
SELECT ping_id::text, seller_id, source_id, sub_id, vertical_id, external_id, test, direct,
       received_at, coalesce(tmax_ms, 0) AS tmax_ms, fields, consent, gated, outcome, reason,
       payout_micros, floor_micros, expires_at, bids, book_version, mask_id, took_ms, late_ms
FROM ping
WHERE ping_id = $1 AND day = lead_day($1)

-- name: lead
-- The lead, what it carries of its ping, and what its seller was told.
SELECT l.lead_id::text, l.seller_id, l.source_id, l.sub_id, l.vertical_id, l.external_id, l.state,
       l.direct, l.test, l.currency, l.promised_payout_micros, l.min_payout_micros, l.floor_micros,
       l.custody_seq, encode(l.custody_head, 'hex') AS custody_head, l.book_version, l.mask_id,
       l.offer, l.received_at,
       (SELECT i.reply FROM idem i WHERE i.lead_id = l.lead_id AND i.seller_id = l.seller_id
        ORDER BY i.created_at LIMIT 1) AS reply
FROM lead l
WHERE l.lead_id = $1 AND l.day = lead_day($1)

-- name: attempts
-- Its attempts, in the order they were made.
SELECT attempt_id::text, buyer_id, contract_id, rank, state, price_micros, payout_micros,
       fee_micros, currency, deadline_at, next_check_at, checks, buyer_ref, buyer_reason,
       resolved_by, windows, created_at, leg
FROM attempt
WHERE lead_id = $1 AND day = lead_day($1)
ORDER BY created_at, attempt_id

-- name: events
-- What happened to them and to the lead.
SELECT attempt_id::text, state, at, detail
FROM attempt_event
WHERE lead_id = $1 AND day = lead_day($1)
ORDER BY at, state = 'posting' DESC

-- name: transfers
-- Its transfers, with the parties whose accounts they move.
SELECT t.attempt_id::text, d.party_id AS debit_party, d.kind AS debit_kind,
       c.party_id AS credit_party, c.kind AS credit_kind, t.amount_micros, t.currency, t.at, t.code
FROM transfer t
JOIN account d ON d.id = t.debit_account
JOIN account c ON c.id = t.credit_account
WHERE t.lead_id = $1 AND t.day = lead_day($1)
ORDER BY t.at, t.code, t.transfer_id

-- name: returns
-- The returns of its sales, in the order they were asked for.
SELECT return_id::text, attempt_id::text, buyer_id, state, reason, rule, credit_micros,
       clawback_micros, replaces, currency, requested_at, decided_at, decided_by
FROM return_case
WHERE lead_id = $1 AND day = lead_day($1)
ORDER BY return_id

-- name: resales
-- The times that it was offered again, or looked at for that.
SELECT resale_id::text, leg, released, rule, by, why, at
FROM resale
WHERE lead_id = $1 AND day = lead_day($1)
ORDER BY at

-- name: custody
-- Its chain of custody.
SELECT lead_id::text, seq, kind, bytes, prev, hash, at
FROM custody_event
WHERE lead_id = $1 AND day = lead_day($1)
ORDER BY seq

-- name: notices
-- What its seller and its buyers are told by webhook.
SELECT party_id, kind, state, tries, next_try_at, sent_at, last_result
FROM outbox
WHERE lead_id = $1 AND day = lead_day($1)
ORDER BY at

-- name: mask
-- The contracts that the worker had cleared, as it recorded them.
SELECT book_version, gates, segments, sources
FROM closed_mask
WHERE mask_id = $1 AND vertical_id = $2
LIMIT 1

-- name: pauses
-- What paused a source ($1), or the sub_id $2 of it, at $3: everywhere (no buyer) or at a buyer.
SELECT b.key AS buyer, p.sub_id, p.since, p.by, p.why, coalesce(p.lifted_at, p.lift_at) AS until
FROM source_pause p LEFT JOIN buyer b ON b.id = p.buyer_id
WHERE p.source_id = $1 AND (p.sub_id IS NULL OR p.sub_id = $2)
  AND p.since <= $3 AND (p.lifted_at IS NULL OR p.lifted_at > $3)
ORDER BY p.since
