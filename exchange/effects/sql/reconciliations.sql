-- Reconciliations that are kept.

-- name: previous
-- The last reconciliation of the same file with the same partner.
SELECT reconciliation_id::text FROM reconciliation
WHERE party_id = $1 AND file_sha256 = $2 ORDER BY reconciliation_id DESC LIMIT 1

-- name: keep_run
-- A reconciliation, written before its findings and with them in one transaction.
INSERT INTO reconciliation (
    reconciliation_id, by, side, party_id, file_sha256, first_day, last_day, zone, tolerance_days,
    currency, columns, our_lines, their_lines, outside, unread, differences, ambiguous, totals,
    previous
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)

-- name: keep_findings
-- Some of its differences, as JSON in $3.
INSERT INTO reconciliation_finding (
    reconciliation_id, party_id, number, key, verdict, attempt_id, lead_id, doc
)
SELECT $1, $2, f.number, decode(f.key, 'hex'), f.doc ->> 'verdict',
       nullif(f.doc ->> 'attempt_id', '')::uuid, nullif(f.doc ->> 'lead_id', '')::uuid, f.doc
FROM jsonb_to_recordset($3) AS f (number integer, key text, doc jsonb)

-- name: runs
-- Reconciliations, the newest first: of a party ($1) if one is named, before another ($2), at most $3;
-- or the one of this id ($4).
SELECT r.reconciliation_id::text, r.at, r.by, r.side, p.key AS partner, r.party_id,
       encode(r.file_sha256, 'hex') AS file_sha256, r.first_day, r.last_day, r.zone,
       r.tolerance_days, r.currency, r.columns, r.our_lines, r.their_lines, r.outside, r.unread,
       r.differences, r.ambiguous, r.totals, r.previous::text,
       (SELECT count(*) FROM reconciliation_finding f
        WHERE f.reconciliation_id = r.reconciliation_id AND (
            SELECT s.is_settled FROM reconciliation_settlement s
            WHERE s.party_id = f.party_id AND s.key = f.key
            ORDER BY s.settlement_id DESC LIMIT 1)) AS settled
FROM reconciliation r JOIN party p ON p.id = r.party_id
WHERE ($1::integer IS NULL OR r.party_id = $1) AND ($2::uuid IS NULL OR r.reconciliation_id < $2)
  AND ($4::uuid IS NULL OR r.reconciliation_id = $4)
ORDER BY r.reconciliation_id DESC LIMIT $3

-- name: findings
-- Differences of a reconciliation ($1) after a number ($2), at most $3, each with what became of it;
-- $4: only of these numbers.
SELECT f.number, encode(f.key, 'hex') AS key, f.doc, s.is_settled, s.at, s.by, s.why
FROM reconciliation_finding f
LEFT JOIN LATERAL (
    SELECT * FROM reconciliation_settlement s
    WHERE s.party_id = f.party_id AND s.key = f.key ORDER BY s.settlement_id DESC LIMIT 1
) s ON true
WHERE f.reconciliation_id = $1 AND f.number > $2 AND ($4::integer[] IS NULL OR f.number = ANY($4))
ORDER BY f.number LIMIT $3

-- name: doubts
-- The differences of a reconciliation ($1) that a buyer's file may resolve, after a number ($2).
SELECT f.number, encode(f.key, 'hex') AS key, f.doc, NULL::boolean AS is_settled
FROM reconciliation_finding f
WHERE f.reconciliation_id = $1 AND f.number > $2 AND f.doc -> 'suggested' ->> 'kind' = 'resolve'
ORDER BY f.number LIMIT $3

-- name: changed
-- How a reconciliation ($1) differs from the one before it ($2): which side alone has so many keys.
SELECT 'appeared' AS side, count(*) AS findings, (array_agg(f.number ORDER BY f.number))[1:$3] AS first
FROM reconciliation_finding f
WHERE f.reconciliation_id = $1 AND NOT EXISTS (
    SELECT FROM reconciliation_finding o WHERE o.reconciliation_id = $2 AND o.key = f.key)
UNION ALL
SELECT 'gone', count(*), (array_agg(f.number ORDER BY f.number))[1:$3]
FROM reconciliation_finding f
WHERE f.reconciliation_id = $2 AND NOT EXISTS (
    SELECT FROM reconciliation_finding o WHERE o.reconciliation_id = $1 AND o.key = f.key)

-- name: settle
-- Differences of a reconciliation ($1), by number, are done with, or ($5 false) are not after all.
INSERT INTO reconciliation_settlement (
    settlement_id, reconciliation_id, number, party_id, key, is_settled, by, why
)
SELECT uuidv7(), f.reconciliation_id, f.number, f.party_id, f.key, $5, $3, $4
FROM reconciliation_finding f
WHERE f.reconciliation_id = $1 AND f.number = ANY($2::integer[])

-- name: audit
-- Who did it and why.
INSERT INTO audit (by, action, subject, detail) VALUES ($1, $2, $3, $4)

-- name: party
-- The partner of this kind ($1) and key ($2).
SELECT id FROM party WHERE kind = $1 AND key = $2
