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

RESET ROLE;
