-- Lists of customers that buyers upload, as keyed hashes.

-- name: lock
-- One list of a buyer at a time.
SELECT pg_advisory_xact_lock(hashtextextended('exchange.customers', $1))

-- name: list
-- A list, at the moment from which it counts.
INSERT INTO customer_list (list_id, buyer_id, way, kinds, pepper_epoch, keys, by, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: keys
-- Some of those on a list: new ones from now ($6) on; those on it already are on this one ($5) too.
INSERT INTO customer_key (buyer_id, pepper_epoch, kind, hmac, list_id, since)
SELECT $1, $2, n.kind, n.hmac, $5, $6
FROM unnest($3::text[], $4::bytea[]) AS n (kind, hmac)
ON CONFLICT (buyer_id, kind, pepper_epoch, hmac) WHERE until IS NULL
DO UPDATE SET list_id = excluded.list_id

-- name: leave
-- Whoever is not on the whole list ($2) of a buyer ($1) is no customer from now ($3) on.
UPDATE customer_key SET until = greatest(since, $3)
WHERE buyer_id = $1 AND until IS NULL AND list_id <> $2

-- name: standing
-- A buyer's list as it stands: how many are on it, and its newest upload.
SELECT (SELECT count(*) FROM customer_key WHERE buyer_id = $1 AND until IS NULL) AS keys,
       l.way, l.kinds, l.by, l.at
FROM customer_list l WHERE l.buyer_id = $1 ORDER BY l.at DESC LIMIT 1
