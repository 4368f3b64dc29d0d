-- Incidents of sources: their moves, each one statement; the sales they are about; what is due.

-- name: open
-- A new incident ($1 one document): its row and fact, the pause, the holds, the audit.
WITH given AS (
    SELECT * FROM jsonb_to_record($1) AS g (
        incident jsonb, event jsonb, pause jsonb, holds jsonb, audit jsonb
    )
),
incident AS (
    INSERT INTO incident SELECT i.*
    FROM given CROSS JOIN LATERAL jsonb_populate_record(NULL::incident, given.incident) i
),
event AS (
    INSERT INTO incident_event
    SELECT e.* FROM given CROSS JOIN LATERAL jsonb_populate_record(NULL::incident_event, given.event) e
),
paused AS (
    INSERT INTO source_pause (pause_id, source_id, sub_id, incident_id, since, by, why)
    SELECT p.pause_id, p.source_id, p.sub_id, p.incident_id, p.since, p.by, p.why
    FROM given CROSS JOIN LATERAL jsonb_populate_record(NULL::source_pause, given.pause) p
),
held AS (
    INSERT INTO payout_hold (
        hold_id, party_id, incident_id, currency, amount_micros, since, by, why
    )
    SELECT h.hold_id, h.party_id, h.incident_id, h.currency, h.amount_micros, h.since, h.by, h.why
    FROM given CROSS JOIN LATERAL jsonb_populate_recordset(NULL::payout_hold, given.holds) h
)
INSERT INTO audit (by, action, subject, detail)
SELECT u.by, u.action, u.subject, u.detail
FROM given CROSS JOIN LATERAL jsonb_populate_record(NULL::audit, given.audit) u

-- name: move
-- An incident ($1) from a state ($2) to another ($3) at $4, by $5, because $6, with $7 as its detail;
-- none when it is in another state.
WITH moved AS (
    UPDATE incident SET state = $3 WHERE incident_id = $1 AND state = $2
    RETURNING incident_id
),
event AS (
    INSERT INTO incident_event (incident_id, state, at, by, why, detail)
    SELECT incident_id, $3, $4, $5, $6, $7 FROM moved
),
audited AS (
    INSERT INTO audit (by, action, subject, detail)
    SELECT $5, 'incident.' || $3, incident_id::text, $7::jsonb || jsonb_build_object('why', $6::text)
    FROM moved
)
SELECT true FROM moved

-- name: fix
-- The sales that an incident ($1) makes good from now on, as it was approved.
INSERT INTO incident_sale (incident_id, lead_id, day, attempt_id, buyer_id)
SELECT i.incident_id, s.lead_id, s.day, s.attempt_id, s.buyer_id
FROM incident i
CROSS JOIN LATERAL affected_sales(i.source_id, i.sub_id, i.since, i.until) s
WHERE i.incident_id = $1 AND s.state = 'sold'

-- name: lift
-- Ends the pause (with $5) and the holds of an incident ($1) at $2, by $3, because $4.
WITH lifted AS (
    UPDATE source_pause SET lifted_at = $2, lifted_by = $3, lifted_why = $4
    WHERE incident_id = $1 AND lifted_at IS NULL
    RETURNING source_id, sub_id, why
),
kept AS (
    INSERT INTO source_pause (pause_id, source_id, sub_id, since, by, why)
    SELECT $6, source_id, sub_id, $2, $3, $4 FROM lifted WHERE NOT $5
    ON CONFLICT (source_id, sub_id, buyer_id, incident_id) WHERE lifted_at IS NULL DO NOTHING
)
UPDATE payout_hold SET lifted_at = $2, lifted_by = $3
WHERE incident_id = $1 AND lifted_at IS NULL

-- name: tell
-- A notice of an incident ($1) to its seller.
INSERT INTO outbox (outbox_id, lead_id, day, party_id, kind, body, at)
VALUES ($2, $1, lead_day($1), $3, 'incident.booked', $4, $5)

-- name: find
-- One incident.
SELECT to_jsonb(i) AS doc FROM incident i WHERE i.incident_id = $1

-- name: listing
-- Incidents in these states ($1), the newest first; at most $2.
SELECT to_jsonb(i) AS doc FROM incident i WHERE i.state = ANY ($1::text[])
ORDER BY i.incident_id DESC LIMIT $2

-- name: events
-- What happened to an incident, in order.
SELECT state, at, by, why, detail FROM incident_event WHERE incident_id = $1 ORDER BY at, state

-- name: affected
-- The sales of a source ($1), of a sub_id ($2) of it, of leads received from $3 until before $4.
SELECT attempt_id::text, lead_id::text, state, buyer_id, price_micros, payout_micros,
       credited_micros, clawed_micros, currency, sold_at, zone, replaced, open_return::text, clawback,
       net_of_returns
FROM affected_sales($1, $2, $3, $4)
ORDER BY attempt_id

-- name: paid_through
-- By currency, the moment up to which a seller's ($1) sales are paid out: what it was paid covers the
-- oldest payouts first, each less what returns took of it.
WITH mine AS (SELECT id FROM account WHERE party_id = $1 AND kind = 'payable'),
moved AS (
    SELECT t.currency, t.attempt_id, t.code, t.at,
           CASE WHEN t.credit_account IN (SELECT id FROM mine) THEN t.amount_micros
                ELSE -t.amount_micros END AS amount
    FROM transfer t
    WHERE t.credit_account IN (SELECT id FROM mine) OR t.debit_account IN (SELECT id FROM mine)
),
paid AS (
    SELECT currency, -sum(amount) AS amount FROM moved WHERE code IN (11, 111) GROUP BY currency
),
running AS (
    SELECT currency, at, sum(net) OVER (PARTITION BY currency ORDER BY at, attempt_id) AS so_far
    FROM (
        SELECT currency, attempt_id, min(at) AS at, sum(amount) AS net
        FROM moved WHERE attempt_id IS NOT NULL GROUP BY currency, attempt_id
    ) sale
)
SELECT currency, max(running.at) AS through
FROM running JOIN paid USING (currency)
WHERE paid.amount > 0 AND running.so_far <= paid.amount
GROUP BY currency

-- name: progress
-- By state, how many sales of an incident ($1), and what they were credited and clawed back.
SELECT s.state, s.buyer_id, a.currency, count(*) AS sales,
       sum(s.credit_micros)::bigint AS credit_micros,
       sum(s.clawback_micros)::bigint AS clawback_micros
FROM incident_sale s
JOIN attempt a ON a.lead_id = s.lead_id AND a.day = s.day AND a.attempt_id = s.attempt_id
WHERE s.incident_id = $1
GROUP BY s.state, s.buyer_id, a.currency

-- name: due
-- The next sales of an incident ($1) that are not booked yet, after $2; at most $3.
SELECT lead_id::text, attempt_id::text, buyer_id FROM incident_sale
WHERE incident_id = $1 AND state = 'due' AND attempt_id > $2
ORDER BY attempt_id LIMIT $3

-- name: nothing_left
-- A sale of an incident of which nothing is left on either side, by somebody else's doing.
UPDATE incident_sale SET state = 'nothing_left', booked_at = $4
WHERE incident_id = $1 AND lead_id = $2 AND attempt_id = $3 AND state = 'due'

-- name: later
-- How many sales an incident ($1) has by now that it did not have when it was approved.
SELECT count(*)
FROM incident i
CROSS JOIN LATERAL affected_sales(i.source_id, i.sub_id, i.since, i.until) s
WHERE i.incident_id = $1 AND s.state = 'sold' AND NOT EXISTS (
    SELECT FROM incident_sale m
    WHERE m.incident_id = i.incident_id AND m.lead_id = s.lead_id AND m.attempt_id = s.attempt_id
)
