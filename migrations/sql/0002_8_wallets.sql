-- Wallets of buyers that pay ahead: a row of cap_window per buyer and currency that never resets, counted
-- from WHOLE (2^52) less what the buyer has left. Sales take from it as from any cap; everything else
-- that the ledger books between the buyer and the house reaches it here.

SET LOCAL ROLE exchange_owner;

CREATE TABLE wallet (
    buyer_id  integer NOT NULL REFERENCES buyer,
    currency  text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    win       text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (buyer_id, currency)
);
SELECT keep_table('wallet', 'fact', 'buyer_id = reading_party()');

-- What moved a wallet beside sales; untold until Valkey has heard of it. delta_micros above zero: room
-- was taken.
CREATE TABLE wallet_move (
    transfer_id  uuid PRIMARY KEY,
    buyer_id     integer NOT NULL,
    win          text NOT NULL,
    delta_micros bigint NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    is_told      boolean NOT NULL DEFAULT false
);
CREATE INDEX wallet_move_untold ON wallet_move (at) WHERE NOT is_told;
CREATE INDEX wallet_move_of_buyer ON wallet_move (buyer_id, at);
SELECT keep_table('wallet_move', 'projection', 'false');
GRANT UPDATE (is_told) ON wallet_move TO exchange_app;

-- The name of a wallet's window, as exchange/core/wallets.py has it; a test compares them.
CREATE FUNCTION wallet_win(currency text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN '0.' || (get_byte(currency::bytea, 0) * 65536 + get_byte(currency::bytea, 1) * 256
                + get_byte(currency::bytea, 2))::text || '.t';

-- What a buyer owes less what it paid ahead, by all transfers there are.
CREATE FUNCTION owed_micros(buyer integer, cur text) RETURNS bigint LANGUAGE sql STABLE AS $$
    WITH mine AS (
        SELECT id FROM account
        WHERE party_id = buyer AND currency = cur AND kind IN ('receivable', 'prepaid')
    )
    SELECT (
        coalesce((SELECT sum(amount_micros) FROM transfer
                  WHERE debit_account = ANY (ARRAY(SELECT id FROM mine))), 0)
        - coalesce((SELECT sum(amount_micros) FROM transfer
                    WHERE credit_account = ANY (ARRAY(SELECT id FROM mine))), 0)
    )::bigint
$$;

-- Opens a wallet, or counts it anew by the ledger. used = what sales name it for + what live attempts
-- hold + carried, and comes to 2^52 + what is owed + what is held.
CREATE FUNCTION open_wallet(buyer integer, cur text, version integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    name text := wallet_win(cur);
    owed bigint;
    sold bigint;
    held bigint;
BEGIN
    INSERT INTO wallet (buyer_id, currency, win) VALUES (buyer, cur, name) ON CONFLICT DO NOTHING;
    INSERT INTO cap_window (buyer_id, win) VALUES (buyer, name) ON CONFLICT DO NOTHING;
    PERFORM FROM cap_window WHERE buyer_id = buyer AND win = name FOR UPDATE;
    owed := owed_micros(buyer, cur);
    SELECT coalesce(sum((w->>2)::bigint) FILTER (WHERE a.state = 'sold'), 0),
           coalesce(sum((w->>2)::bigint) FILTER (WHERE a.state <> 'sold'), 0)
    INTO sold, held
    FROM attempt a CROSS JOIN jsonb_array_elements(a.windows) AS w
    WHERE a.buyer_id = buyer AND NOT a.test AND a.state IN ('posting', 'unknown', 'sold')
      AND w->>0 = name;
    UPDATE cap_window
    SET used = 4503599627370496 + owed + held, carried = 4503599627370496 + owed - sold,
        updated_at = now()
    WHERE buyer_id = buyer AND win = name;
    INSERT INTO cap_generation (buyer_id, due_version) VALUES (buyer, version)
    ON CONFLICT (buyer_id) DO UPDATE SET due_version = excluded.due_version;
END
$$;

-- Everything but the legs of a sale (codes 1 and 2, whose price the sale itself took) moves the wallet
-- of its buyer. A refund beyond what is left is refused.
CREATE FUNCTION wallet_moved() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    moved record;
BEGIN
    FOR moved IN
        SELECT w.buyer_id, w.win,
               sum(CASE WHEN a.id = NEW.debit_account THEN NEW.amount_micros
                        ELSE -NEW.amount_micros END)::bigint AS delta
        FROM account a
        JOIN wallet w ON w.buyer_id = a.party_id AND w.currency = a.currency
        WHERE a.id IN (NEW.debit_account, NEW.credit_account)
          AND a.kind IN ('receivable', 'prepaid')
        GROUP BY w.buyer_id, w.win
    LOOP
        CONTINUE WHEN moved.delta = 0;
        UPDATE cap_window
        SET used = used + moved.delta, carried = carried + moved.delta, updated_at = now()
        WHERE buyer_id = moved.buyer_id AND win = moved.win
          AND (NEW.code <> 14 OR used + moved.delta <= 4503599627370496);
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the wallet has less left than is to be refunded'
                USING ERRCODE = 'restrict_violation';
        END IF;
        INSERT INTO wallet_move (transfer_id, buyer_id, win, delta_micros)
        VALUES (NEW.transfer_id, moved.buyer_id, moved.win, moved.delta);
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER wallet_moved AFTER INSERT ON transfer
    FOR EACH ROW WHEN (NEW.code > 2) EXECUTE FUNCTION wallet_moved();

REVOKE ALL ON FUNCTION wallet_win(text), owed_micros(integer, text),
    open_wallet(integer, text, integer), wallet_moved() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION wallet_win(text), owed_micros(integer, text),
    open_wallet(integer, text, integer) TO exchange_app;
GRANT EXECUTE ON FUNCTION wallet_win(text), owed_micros(integer, text) TO exchange_reader;

RESET ROLE;
