-- What the caps of a buyer need of the database: the generation of its counters, and what to load them
-- with.

-- name: generation
-- What Valkey should know of a buyer's counters.
SELECT generation, sq, run_id, replication_id, due_version, counted_version
FROM cap_generation WHERE buyer_id = $1

-- name: generation_made
-- The row that a rebuilder locks. A buyer that the market does not know has none.
INSERT INTO cap_generation (buyer_id) SELECT id FROM buyer WHERE id = $1 ON CONFLICT DO NOTHING

-- name: lock_timeout
-- How long to wait for another rebuilder, within this transaction.
SELECT set_config('lock_timeout', $1, true)

-- name: generation_locked
-- Elects one rebuilder: the others wait here, then see what it wrote.
SELECT generation, sq, run_id, replication_id, due_version, counted_version
FROM cap_generation WHERE buyer_id = $1 FOR UPDATE

-- name: generation_moved
-- The counters of this generation are loaded, in this server and history, and recounted where that
-- was due.
UPDATE cap_generation
SET generation = $2, sq = $3, run_id = $4, replication_id = $5, counted_version = due_version,
    changed_at = now()
WHERE buyer_id = $1

-- name: counted
-- What the database counts for a buyer, in one snapshot: live attempts (posting, unknown), window by
-- window; sold amounts by window; and tokens that ended lately, whose end Valkey may yet be told.
--
-- Sold amounts are those of the attempts, less what was given back for a returned sale (its claim is
-- released) and with what a recount carried, or what the fence of strict caps has, whichever is more:
-- a market that changes its mode within a window is then still counted whole. Attempts older than any
-- month count only where a contract has, or had, a cap for its total, or the buyer a wallet.
WITH has_total AS (
    SELECT EXISTS (
        SELECT FROM contract c JOIN contract_version v ON v.contract_id = c.id
        WHERE c.buyer_id = $1 AND v.doc->'caps' @> '[{"per": "total"}]'
    ) OR EXISTS (SELECT FROM wallet WHERE buyer_id = $1) AS yes
),
part AS MATERIALIZED (
    SELECT a.attempt_id, a.state, a.updated_at, w->>0 AS win, (w->>2)::bigint AS amount,
           k.state IS NOT DISTINCT FROM 'released' AS undone
    FROM attempt a
    CROSS JOIN jsonb_array_elements(a.windows) AS w
    LEFT JOIN cap_claim k
        ON k.buyer_id = a.buyer_id AND k.attempt_id = a.attempt_id AND k.win = w->>0
    WHERE a.buyer_id = $1 AND NOT a.test AND a.state IN ('posting', 'unknown', 'sold')
      AND (a.created_at > now() - interval '34 days' OR (SELECT yes FROM has_total))
),
sold AS (
    SELECT win, sum(amount) AS amount FROM part WHERE state = 'sold' AND NOT undone GROUP BY win
),
live AS (
    SELECT win, sum(amount) AS amount FROM part WHERE state <> 'sold' GROUP BY win
),
fenced AS (
    SELECT c.win, c.used - coalesce(l.amount, 0) AS amount, c.carried
    FROM cap_window c LEFT JOIN live l USING (win)
    WHERE c.buyer_id = $1 AND (c.updated_at > now() - interval '34 days' OR c.win ~ '\.t(\.|$)')
)
SELECT 'hold' AS kind, attempt_id::text AS token, win, amount FROM part WHERE state <> 'sold'
UNION ALL
SELECT 'used', NULL, win,
       greatest(coalesce(s.amount, 0) + coalesce(f.carried, 0), coalesce(f.amount, 0), 0)::bigint
FROM sold s FULL JOIN fenced f USING (win)
UNION ALL
SELECT 'ended', attempt_id::text, CASE WHEN bool_or(undone) THEN 'U' ELSE 'C' END, 0
FROM part WHERE state = 'sold' AND updated_at > now() - make_interval(secs => $2)
GROUP BY attempt_id
UNION ALL
-- What moved a wallet beside sales is in what it carries; it may yet be told.
SELECT 'ended', transfer_id::text, CASE WHEN delta_micros < 0 THEN 'U' ELSE 'C' END, 0
FROM wallet_move
WHERE buyer_id = $1 AND (NOT is_told OR at > now() - make_interval(secs => $2))
