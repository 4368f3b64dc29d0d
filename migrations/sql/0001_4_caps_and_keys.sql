-- The buyer group: caps as the database counts them. cap_window.used is locked and added to in
-- INTENT's transaction (strict caps) and given back when the attempt ends without a sale. carried:
-- what the window counts of attempts that do not name it, less those that do and it does not count:
-- the market moved the window's bounds, or made its cap, after they were made. It is within used.

CREATE TABLE cap_window (
    buyer_id   integer NOT NULL,
    win        text NOT NULL,
    used       bigint NOT NULL DEFAULT 0 CHECK (used >= 0),
    carried    bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (buyer_id, win)
);

-- What one attempt took of a window. held: posting or unknown; used: sold; released: given back.
CREATE TABLE cap_claim (
    buyer_id   integer NOT NULL,
    win        text NOT NULL,
    attempt_id uuid NOT NULL,
    lead_id    uuid NOT NULL,
    amount     bigint NOT NULL CHECK (amount >= 0),
    state      text NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'used', 'released')),
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (buyer_id, win, attempt_id)
);
CREATE INDEX cap_claim_of_attempt ON cap_claim (attempt_id);

-- The seller group: a key is claimed by inserting it in the transaction of the lead's first commit.
CREATE TABLE idem (
    seller_id   integer NOT NULL,
    key         text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) BETWEEN 16 AND 32),
    lead_id     uuid NOT NULL,
    state       text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done')),
    reply       jsonb,
    created_at  timestamptz NOT NULL DEFAULT now(),
    done_at     timestamptz,
    PRIMARY KEY (seller_id, key),
    CHECK ((state = 'done') = (reply IS NOT NULL))
);
CREATE INDEX idem_of_lead ON idem (lead_id);
