-- Returns from any sheet: what each buyer's words mean, and the customers a buyer had before a sale.

SET LOCAL ROLE exchange_owner;

-- What a buyer's sheets say: a header (kind column) means a field, a phrase (reason) a return reason,
-- days (said is empty) the order that days are written in. A newer row corrects an older one.
CREATE TABLE sheet_word (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    buyer_id integer NOT NULL REFERENCES buyer (id),
    kind     text NOT NULL CHECK (kind IN ('column', 'reason', 'days')),
    said     text NOT NULL CHECK (length(said) <= 80),
    meaning  text NOT NULL CHECK (length(meaning) BETWEEN 1 AND 80),
    by       text NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sheet_word_of_buyer ON sheet_word (buyer_id, id);
SELECT keep_table('sheet_word', 'fact', 'buyer_id = reading_party()');

-- A list of customers that a buyer uploaded: when, of which kinds of persons, how many. 'whole' takes
-- the place of what was listed before, 'more' is added to it.
CREATE TABLE customer_list (
    list_id      uuid PRIMARY KEY,
    buyer_id     integer NOT NULL REFERENCES buyer (id),
    way          text NOT NULL CHECK (way IN ('whole', 'more')),
    kinds        text[] NOT NULL CHECK (cardinality(kinds) > 0),
    pepper_epoch integer NOT NULL,
    keys         integer NOT NULL CHECK (keys > 0),
    by           text NOT NULL,
    at           timestamptz NOT NULL
);
CREATE INDEX customer_list_of_buyer ON customer_list (buyer_id, at);
SELECT keep_table('customer_list', 'fact', 'buyer_id = reading_party()');

-- Who stands, or stood, on it: keyed hashes, as leads' persons have. since and until say when, so that
-- a sale is judged by the list of its moment. list_id is the last list that had it. No reader sees any,
-- and as those of leads they may be erased.
CREATE TABLE customer_key (
    buyer_id     integer NOT NULL REFERENCES buyer (id),
    kind         text NOT NULL CHECK (kind IN ('phone', 'email')),
    pepper_epoch integer NOT NULL,
    hmac         bytea NOT NULL CHECK (octet_length(hmac) BETWEEN 16 AND 32),
    since        timestamptz NOT NULL,
    until        timestamptz CHECK (until >= since),
    list_id      uuid NOT NULL,
    PRIMARY KEY (buyer_id, kind, pepper_epoch, hmac, since)
);
CREATE UNIQUE INDEX customer_key_now ON customer_key (buyer_id, kind, pepper_epoch, hmac)
    WHERE until IS NULL;
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON customer_key
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE customer_key ENABLE ROW LEVEL SECURITY;
CREATE POLICY app_sees_all ON customer_key TO exchange_app USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE (until, list_id) ON customer_key TO exchange_app;

RESET ROLE;
