-- Wallets of buyers that pay ahead: what moved them, and how they stand.

-- name: untold
-- What moved wallets beside sales and Valkey has not heard of, the oldest first.
SELECT transfer_id::text, buyer_id, win, delta_micros FROM wallet_move
WHERE NOT is_told ORDER BY at, transfer_id LIMIT $1

-- name: told
-- These were told.
UPDATE wallet_move SET is_told = true WHERE transfer_id = ANY ($1::uuid[])

-- name: wallets
-- Every wallet, by what its window counts and by the ledger. held: what live attempts hold.
SELECT w.buyer_id, b.key AS buyer, w.currency, w.win, c.used AS taken_micros,
       owed_micros(w.buyer_id, w.currency) AS owed_micros,
       (SELECT coalesce(sum((x->>2)::bigint), 0)::bigint
        FROM attempt a CROSS JOIN jsonb_array_elements(a.windows) AS x
        WHERE a.buyer_id = w.buyer_id AND a.state IN ('posting', 'unknown') AND NOT a.test
          AND x->>0 = w.win) AS held_micros
FROM wallet w
JOIN buyer b ON b.id = w.buyer_id
JOIN cap_window c ON c.buyer_id = w.buyer_id AND c.win = w.win
WHERE $1::text IS NULL OR b.key = $1
ORDER BY b.key, w.currency

-- name: recounted
-- A buyer's wallets counted anew by the ledger, of the market in force.
SELECT open_wallet(w.buyer_id, w.currency, (SELECT max(version) FROM market_version))
FROM wallet w JOIN buyer b ON b.id = w.buyer_id WHERE b.key = $1
