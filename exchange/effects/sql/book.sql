-- The market in its versions: identities by key, what they mean from a version on, keys, switches and
-- secrets. A version is written whole in one transaction, so a reader that sees its number sees all.

-- name: stamp
-- What a watcher compares: the newest version, and a sum over what changes without one.
SELECT COALESCE((SELECT max(version) FROM market_version), 0) AS version,
       COALESCE((SELECT sum(hashtext(s::text)::bigint) FROM switch s), 0)
       + COALESCE((SELECT sum(hashtext(k.id || COALESCE(k.expires_at::text, ''))::bigint)
                   FROM api_key k WHERE k.revoked_at IS NULL), 0)
       + COALESCE((SELECT sum(hashtext(name || set_at::text)::bigint) FROM secret), 0)
       + COALESCE((SELECT sum(hashtext(pause_id::text)::bigint)
                   FROM source_pause WHERE lifted_at IS NULL), 0) AS loose

-- name: verticals
-- The latest version of each vertical changed after market version $1, up to $2.
SELECT DISTINCT ON (n.id) n.id, n.key, v.version, v.doc, v.closed
FROM vertical_version v JOIN vertical n ON n.id = v.vertical_id
WHERE v.market_version > $1 AND v.market_version <= $2
ORDER BY n.id, v.version DESC

-- name: sellers
-- The latest version of each seller changed after market version $1, up to $2.
SELECT DISTINCT ON (n.id) n.id, n.key, v.version, v.doc, v.closed
FROM seller_version v JOIN seller n ON n.id = v.seller_id
WHERE v.market_version > $1 AND v.market_version <= $2
ORDER BY n.id, v.version DESC

-- name: sources
-- The latest version of each source changed after market version $1, up to $2.
SELECT DISTINCT ON (n.id) n.id, n.key, n.seller_id, v.version, v.doc, v.closed
FROM source_version v JOIN source n ON n.id = v.source_id
WHERE v.market_version > $1 AND v.market_version <= $2
ORDER BY n.id, v.version DESC

-- name: buyers
-- The latest version of each buyer changed after market version $1, up to $2.
SELECT DISTINCT ON (n.id) n.id, n.key, v.version, v.doc, v.closed
FROM buyer_version v JOIN buyer n ON n.id = v.buyer_id
WHERE v.market_version > $1 AND v.market_version <= $2
ORDER BY n.id, v.version DESC

-- name: contracts
-- The latest version of each contract changed after market version $1, up to $2.
SELECT DISTINCT ON (n.id) n.id, n.key, n.buyer_id, n.vertical_id, v.version, v.doc, v.closed
FROM contract_version v JOIN contract n ON n.id = v.contract_id
WHERE v.market_version > $1 AND v.market_version <= $2
ORDER BY n.id, v.version DESC

-- name: keys
-- Keys not revoked; expiry is the reader's to judge.
SELECT id, role, party_id, secret_sha256, expires_at FROM api_key WHERE revoked_at IS NULL

-- name: switched_off
-- What a switch pauses.
SELECT scope, target_id FROM switch WHERE paused

-- name: pauses
-- The sources and sub_ids that are paused, everywhere or at one buyer.
SELECT source_id, sub_id, buyer_id FROM source_pause WHERE lifted_at IS NULL

-- name: identities
-- The buyer and vertical that each contract was made with.
SELECT c.key, b.key AS buyer, v.key AS vertical
FROM contract c JOIN buyer b ON b.id = c.buyer_id JOIN vertical v ON v.id = c.vertical_id

-- name: file_version
-- The newest version that came from a file.
SELECT COALESCE(max(version), 0) FROM market_version WHERE source = 'file'

-- name: lock
-- One writer of the market at a time, to the end of the transaction.
SELECT pg_advisory_xact_lock(hashtext('exchange.market'))

-- name: newest
-- The newest version.
SELECT COALESCE(max(version), 0) FROM market_version

-- name: write_version
-- A market version.
INSERT INTO market_version (version, toml, source, by, why, base_version)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: make_parties
-- Parties of one kind, by key.
INSERT INTO party (kind, key, name) SELECT $1, * FROM unnest($2::text[], $3::text[])
ON CONFLICT (kind, key) DO UPDATE SET name = EXCLUDED.name

-- name: make_verticals
-- Verticals by key.
INSERT INTO vertical (key) SELECT * FROM unnest($1::text[]) ON CONFLICT DO NOTHING

-- name: make_sellers
-- Sellers of the parties of their keys.
INSERT INTO seller (id, key) SELECT id, key FROM party WHERE kind = 'seller' AND key = ANY ($1)
ON CONFLICT DO NOTHING

-- name: make_buyers
-- Buyers of the parties of their keys.
INSERT INTO buyer (id, key) SELECT id, key FROM party WHERE kind = 'buyer' AND key = ANY ($1)
ON CONFLICT DO NOTHING

-- name: make_sources
-- Sources, keyed seller/source.
INSERT INTO source (seller_id, key)
SELECT s.id, split_part(given.key, '/', 2)
FROM unnest($1::text[]) AS given (key) JOIN seller s ON s.key = split_part(given.key, '/', 1)
ON CONFLICT DO NOTHING

-- name: make_contracts
-- Contracts of their buyers and verticals.
INSERT INTO contract (key, buyer_id, vertical_id)
SELECT given.key, b.id, v.id
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS given (key, buyer, vertical, nth)
JOIN buyer b ON b.key = given.buyer JOIN vertical v ON v.key = given.vertical
ORDER BY given.nth
ON CONFLICT DO NOTHING

-- name: write_verticals
-- The next version of each vertical given: key, terms (its last ones when it closes), closed.
INSERT INTO vertical_version (vertical_id, version, market_version, doc, closed)
SELECT n.id,
       COALESCE((SELECT max(v.version) FROM vertical_version v WHERE v.vertical_id = n.id), 0) + 1,
       $1,
       COALESCE(given.doc, (SELECT v.doc FROM vertical_version v WHERE v.vertical_id = n.id
                            ORDER BY v.version DESC LIMIT 1)),
       given.closed
FROM unnest($2::text[], $3::jsonb[], $4::boolean[]) AS given (key, doc, closed)
JOIN vertical n ON n.key = given.key

-- name: write_sellers
-- The next version of each seller given: key, terms (its last ones when it closes), closed.
INSERT INTO seller_version (seller_id, version, market_version, doc, closed)
SELECT n.id,
       COALESCE((SELECT max(v.version) FROM seller_version v WHERE v.seller_id = n.id), 0) + 1,
       $1,
       COALESCE(given.doc, (SELECT v.doc FROM seller_version v WHERE v.seller_id = n.id
                            ORDER BY v.version DESC LIMIT 1)),
       given.closed
FROM unnest($2::text[], $3::jsonb[], $4::boolean[]) AS given (key, doc, closed)
JOIN seller n ON n.key = given.key

-- name: write_sources
-- The next version of each source given: key, terms (its last ones when it closes), closed.
INSERT INTO source_version (source_id, version, market_version, doc, closed)
SELECT n.id,
       COALESCE((SELECT max(v.version) FROM source_version v WHERE v.source_id = n.id), 0) + 1,
       $1,
       COALESCE(given.doc, (SELECT v.doc FROM source_version v WHERE v.source_id = n.id
                            ORDER BY v.version DESC LIMIT 1)),
       given.closed
FROM unnest($2::text[], $3::jsonb[], $4::boolean[]) AS given (key, doc, closed)
JOIN source n ON n.key = split_part(given.key, '/', 2)
    AND n.seller_id = (SELECT s.id FROM seller s WHERE s.key = split_part(given.key, '/', 1))

-- name: write_buyers
-- The next version of each buyer given: key, terms (its last ones when it closes), closed.
INSERT INTO buyer_version (buyer_id, version, market_version, doc, closed)
SELECT n.id,
       COALESCE((SELECT max(v.version) FROM buyer_version v WHERE v.buyer_id = n.id), 0) + 1,
       $1,
       COALESCE(given.doc, (SELECT v.doc FROM buyer_version v WHERE v.buyer_id = n.id
                            ORDER BY v.version DESC LIMIT 1)),
       given.closed
FROM unnest($2::text[], $3::jsonb[], $4::boolean[]) AS given (key, doc, closed)
JOIN buyer n ON n.key = given.key

-- name: write_contracts
-- The next version of each contract given: key, terms (its last ones when it closes), closed.
INSERT INTO contract_version (contract_id, version, market_version, doc, closed)
SELECT n.id,
       COALESCE((SELECT max(v.version) FROM contract_version v WHERE v.contract_id = n.id), 0) + 1,
       $1,
       COALESCE(given.doc, (SELECT v.doc FROM contract_version v WHERE v.contract_id = n.id
                            ORDER BY v.version DESC LIMIT 1)),
       given.closed
FROM unnest($2::text[], $3::jsonb[], $4::boolean[]) AS given (key, doc, closed)
JOIN contract n ON n.key = given.key

-- name: recounts_due
-- The buyers whose sales count in other windows by this version: another zone, another kind of cap
-- (its limit aside). What Valkey counts of them is not believed before it is recounted.
WITH counts_by AS (
    SELECT contract_id, version, market_version, doc->>'time_zone' AS zone,
           ARRAY(SELECT DISTINCT (cap - 'leads' - 'money') || jsonb_build_object('m', cap ? 'money')
                 FROM jsonb_array_elements(doc->'caps') AS cap ORDER BY 1) AS kinds
    FROM contract_version
),
moved AS (
    SELECT c.buyer_id
    FROM counts_by v
    JOIN counts_by b ON b.contract_id = v.contract_id AND b.version = v.version - 1
    JOIN contract c ON c.id = v.contract_id
    WHERE v.market_version = $1 AND (v.zone, v.kinds) IS DISTINCT FROM (b.zone, b.kinds)
    UNION
    SELECT v.buyer_id
    FROM buyer_version v JOIN buyer_version b ON b.buyer_id = v.buyer_id AND b.version = v.version - 1
    WHERE v.market_version = $1 AND v.doc->>'time_zone' IS DISTINCT FROM b.doc->>'time_zone'
)
INSERT INTO cap_generation (buyer_id, due_version) SELECT buyer_id, $1 FROM moved ORDER BY buyer_id
ON CONFLICT (buyer_id) DO UPDATE SET due_version = excluded.due_version

-- name: wallets_due
-- Buyers that pay ahead by this version, in every currency of the market: their wallets are opened, or
-- counted anew by the ledger where the buyer paid otherwise before.
SELECT open_wallet(b.buyer_id, v.currency, $1)
FROM (
    SELECT DISTINCT ON (buyer_id) buyer_id, doc, version FROM buyer_version
    ORDER BY buyer_id, version DESC
) b
CROSS JOIN (SELECT DISTINCT doc->>'currency' AS currency FROM vertical_version) v
LEFT JOIN buyer_version p ON p.buyer_id = b.buyer_id AND p.version = b.version - 1
WHERE (b.doc->>'prepaid')::boolean AND v.currency IS NOT NULL
  AND (NOT coalesce((p.doc->>'prepaid')::boolean, false)
       OR NOT EXISTS (SELECT FROM wallet w
                      WHERE w.buyer_id = b.buyer_id AND w.currency = v.currency))
ORDER BY b.buyer_id, v.currency

-- name: audit
-- Who did what, to what.
INSERT INTO audit (by, action, subject, detail) VALUES ($1, $2, $3, $4)

-- name: flip
-- A switch: on or off.
INSERT INTO switch (scope, target_id, paused, by, why) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (scope, target_id) DO UPDATE
SET paused = EXCLUDED.paused, by = EXCLUDED.by, why = EXCLUDED.why, at = now()

-- name: party
-- The id of a party; none for another kind or key.
SELECT id FROM party WHERE kind = $1 AND key = $2

-- name: active_keys
-- How many keys of a party and role work now.
SELECT count(*) FROM api_key
WHERE role = $1 AND party_id IS NOT DISTINCT FROM $2 AND revoked_at IS NULL
    AND (expires_at IS NULL OR expires_at > now())

-- name: lock_keys
-- One change of keys at a time.
SELECT pg_advisory_xact_lock(hashtext('exchange.api_key'))

-- name: write_key
-- A key: only the hash of its secret.
INSERT INTO api_key (id, role, party_id, secret_sha256, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: revoke_key
-- Ends a key; none when it is unknown or was revoked before.
UPDATE api_key SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING id

-- name: write_secret
-- A sealed secret by name; a new value takes the place of the old.
INSERT INTO secret (name, key_epoch, wrapped_dek, sealed, set_by) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE
SET key_epoch = EXCLUDED.key_epoch, wrapped_dek = EXCLUDED.wrapped_dek,
    sealed = EXCLUDED.sealed, set_by = EXCLUDED.set_by, set_at = now()

-- name: secrets
-- Every secret, sealed.
SELECT name, key_epoch, wrapped_dek, sealed FROM secret
