-- Documents: what a period's transfers come to by party, and the papers that were issued.

-- name: parties
-- Buyers and sellers ($1: only of these keys) with the newest version of their terms, in the order in
-- which their lines come.
SELECT p.id, p.kind, p.key, p.name, coalesce(v.doc, '{}') AS doc
FROM party p
LEFT JOIN LATERAL (
    (SELECT doc FROM buyer_version WHERE buyer_id = p.id AND p.kind = 'buyer'
     ORDER BY version DESC LIMIT 1)
    UNION ALL
    (SELECT doc FROM seller_version WHERE seller_id = p.id AND p.kind = 'seller'
     ORDER BY version DESC LIMIT 1)
) v ON true
WHERE p.kind IN ('buyer', 'seller') AND ($1::text[] IS NULL OR p.key = ANY ($1))
ORDER BY p.id

-- name: lines
-- What the transfers from a moment ($1) until before another ($2, its day in UTC $3) moved, by party
-- ($4), currency and sale, return or correction; a party's lines of a currency come together. Payments
-- and what is written off are on no document; what moves between a party's own accounts moves nothing.
-- A line that is no sale has the moment of its sale: mostly one of this period, else looked up.
WITH own AS MATERIALIZED (
    SELECT a.id, a.party_id, a.currency, CASE p.kind WHEN 'buyer' THEN 1 ELSE -1 END AS way,
           min(a.id) OVER (PARTITION BY a.party_id, a.currency) AS book
    FROM account a JOIN party p ON p.id = a.party_id
    WHERE a.party_id = ANY ($4::integer[])
      AND (p.kind, a.kind) IN (('buyer', 'receivable'), ('seller', 'payable'), ('seller', 'clawback'))
),
leg AS (
    SELECT o.book, t.lead_id, t.day, t.attempt_id, t.at, t.subject, t.code, o.way * t.amount_micros AS micros
    FROM transfer t JOIN own o ON o.id = t.debit_account
    WHERE t.at >= $1 AND t.at < $2 AND t.day <= $3 AND t.subject <> 'payment' AND t.code NOT IN (30, 130)
    UNION ALL
    SELECT o.book, t.lead_id, t.day, t.attempt_id, t.at, t.subject, t.code, -o.way * t.amount_micros
    FROM transfer t JOIN own o ON o.id = t.credit_account
    WHERE t.at >= $1 AND t.at < $2 AND t.day <= $3 AND t.subject <> 'payment' AND t.code NOT IN (30, 130)
),
moved AS MATERIALIZED (
    SELECT book, lead_id, attempt_id, at, min(day) AS day, min(subject) AS subject,
           CASE WHEN code IN (1, 2) THEN 1 WHEN code IN (3, 4, 101, 102) THEN 3 ELSE code END AS code,
           sum(micros)::bigint AS micros
    FROM leg
    GROUP BY book, lead_id, attempt_id, at, 7
    HAVING sum(micros) <> 0
),
sold AS MATERIALIZED (
    SELECT book, lead_id, attempt_id, at FROM moved
    WHERE code = 1 AND (book, lead_id, attempt_id) IN (
        SELECT book, lead_id, attempt_id FROM moved WHERE code <> 1)
)
SELECT o.party_id, o.currency, m.at, m.subject, m.code, m.micros, m.lead_id::text, m.attempt_id::text,
       coalesce(CASE WHEN o.way = 1 THEN c.key ELSE s.key END, '') AS item,
       coalesce(CASE WHEN o.way = 1 THEN a.buyer_ref ELSE l.external_id END, '') AS reference,
       coalesce(f.at, CASE WHEN m.code <> 1 AND m.attempt_id IS NOT NULL THEN (
           SELECT min(t.at) FROM transfer t
           WHERE t.lead_id = m.lead_id AND t.day = m.day AND t.attempt_id = m.attempt_id
             AND t.code IN (1, 2)
       ) END) AS sold_at
FROM moved m
JOIN own o ON o.id = m.book
LEFT JOIN sold f ON f.book = m.book AND f.lead_id = m.lead_id AND f.attempt_id = m.attempt_id
                AND m.code <> 1
LEFT JOIN attempt a ON a.lead_id = m.lead_id AND a.day = m.day AND a.attempt_id = m.attempt_id
                   AND a.day <= $3
LEFT JOIN lead l ON l.lead_id = m.lead_id AND l.day = m.day AND l.day <= $3 AND o.way = -1
LEFT JOIN contract c ON c.id = a.contract_id
LEFT JOIN source s ON s.id = l.source_id
ORDER BY o.party_id, o.currency

-- name: weight
-- About how many transfers a period has; for the bar of its progress.
SELECT count(*) FROM transfer WHERE at >= $1 AND at < $2 AND day <= $3 AND code = 1

-- name: in_force
-- What documents of these parties cover, the cancelled ones left out.
SELECT d.kind, d.party_id, d.currency, d.number, d.total_micros, d.since, d.until
FROM document d
WHERE d.party_id = ANY ($1::integer[]) AND d.kind <> 'cancellation'
  AND NOT EXISTS (SELECT FROM document c WHERE c.cancels = d.document_id)
ORDER BY d.since

-- name: numbers
-- The rows numbers are taken from, made where a year has none yet.
INSERT INTO document_number (kind, year) SELECT kind, $2 FROM unnest($1::text[]) AS n (kind)
ON CONFLICT DO NOTHING

-- name: last_numbers
-- The last numbers taken, locked until the transaction ends, in one order for all who issue.
SELECT kind, last FROM document_number WHERE year = $1 AND kind = ANY ($2::text[])
ORDER BY kind FOR UPDATE

-- name: insert
-- Documents, in the order of their numbers.
INSERT INTO document (
    document_id, kind, year, serial, party_id, currency, first_day, last_day, zone, since, until,
    total_micros, line_count, issued_on, due_on, cites, cited_micros, cancels, content, hash, issued_by
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
        sha256($19), $20)

-- name: audit
-- Who did what.
INSERT INTO audit (by, action, subject, detail) VALUES ($1, $2, $3, $4)

-- name: listing
-- Documents, the newest first: of a party ($1), of a kind ($2), after which a page ended ($3 its moment,
-- $4 its id), at most $5; $6: only of these last days on, $7: until.
SELECT d.document_id::text, d.kind, d.number, p.key AS party, p.kind AS party_kind, d.currency,
       d.first_day, d.last_day, d.zone, d.total_micros, d.line_count, d.issued_on, d.due_on, d.cites,
       d.issued_at, d.issued_by, encode(d.hash, 'hex') AS hash, c.number AS cancelled_by,
       coalesce((SELECT sum(m.amount_micros) FROM payment_match m
                 LEFT JOIN payment_unmatch u USING (payment_id, part)
                 WHERE m.document_id = d.document_id AND u.payment_id IS NULL), 0)::bigint AS paid_micros
FROM document d
JOIN party p ON p.id = d.party_id
LEFT JOIN document c ON c.cancels = d.document_id
WHERE ($1::integer IS NULL OR d.party_id = $1) AND ($2::text IS NULL OR d.kind = $2)
  AND ($3::timestamptz IS NULL OR (d.issued_at, d.document_id) < ($3, $4::uuid))
  AND ($6::date IS NULL OR d.last_day >= $6) AND ($7::date IS NULL OR d.first_day <= $7)
ORDER BY d.issued_at DESC, d.document_id DESC
LIMIT $5

-- name: one
-- A document by its number: what it says, as issued. Of a party ($2), or anybody's.
SELECT d.document_id::text, d.kind, d.year, d.serial, d.number, d.party_id, d.currency, d.first_day,
       d.last_day, d.zone, d.since, d.until, d.total_micros, d.line_count, d.issued_on, d.due_on,
       d.content, d.hash, d.issued_by, c.number AS cancelled_by
FROM document d
LEFT JOIN document c ON c.cancels = d.document_id
WHERE d.number = $1 AND ($2::integer IS NULL OR d.party_id = $2)

-- name: last_seen
-- The moment and id after which the next page begins.
SELECT issued_at, document_id FROM document WHERE number = $1

-- name: party_of
-- A party by its key; the kind too, where it is said.
SELECT id, kind, key, name FROM party
WHERE key = $1 AND kind IN ('buyer', 'seller') AND ($2::text IS NULL OR kind = $2) ORDER BY kind
