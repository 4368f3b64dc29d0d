-- Reconciliations that were made, what they found, and what a person made of it. Facts, all of them:
-- the same file compared again is a reconciliation of its own, and a finding is settled by a row
-- beside it. Nothing here is a consumer's: lines are told by their numbers, sales by our ids.

SET LOCAL ROLE exchange_owner;

-- columns: which field stood in which column; unread: lines that cannot be read, `[{line, field, why}]`;
-- totals: by verdict and currency; previous: the last reconciliation of the same file before.
CREATE TABLE reconciliation (
    reconciliation_id uuid PRIMARY KEY,
    at                timestamptz NOT NULL DEFAULT now(),
    by                text NOT NULL CHECK (length(by) BETWEEN 1 AND 200),
    side              text NOT NULL CHECK (side IN ('buyer', 'seller')),
    party_id          integer NOT NULL REFERENCES party (id),
    file_sha256       bytea NOT NULL CHECK (octet_length(file_sha256) = 32),
    first_day         date NOT NULL,
    last_day          date NOT NULL CHECK (last_day >= first_day),
    zone              text NOT NULL,
    tolerance_days    smallint NOT NULL CHECK (tolerance_days >= 0),
    currency          text NOT NULL,
    columns           text[] NOT NULL,
    our_lines         bigint NOT NULL CHECK (our_lines >= 0),
    their_lines       bigint NOT NULL CHECK (their_lines >= 0),
    outside           bigint NOT NULL CHECK (outside >= 0),
    unread            jsonb NOT NULL,
    differences       bigint NOT NULL CHECK (differences >= 0),
    ambiguous         bigint NOT NULL CHECK (ambiguous >= 0),
    totals            jsonb NOT NULL,
    previous          uuid REFERENCES reconciliation (reconciliation_id)
);
CREATE INDEX reconciliation_of_party ON reconciliation (party_id, reconciliation_id);
CREATE INDEX reconciliation_of_file ON reconciliation (party_id, file_sha256, reconciliation_id);

-- Every difference; what agreed stands in the totals alone. key: the same difference of the same sale,
-- or of the same line of the same file, whenever it is found.
CREATE TABLE reconciliation_finding (
    reconciliation_id uuid NOT NULL,
    number            integer NOT NULL CHECK (number > 0),
    key               bytea NOT NULL CHECK (octet_length(key) = 16),
    party_id          integer NOT NULL,
    verdict           text NOT NULL CHECK (
        verdict IN ('only_ours', 'only_theirs', 'other_price', 'other_status')
    ),
    attempt_id        uuid,
    lead_id           uuid,
    doc               jsonb NOT NULL,
    PRIMARY KEY (reconciliation_id, number),
    UNIQUE (reconciliation_id, key)
);

-- A finding is done with, and why; or, with is_settled false, it is not after all. The last one holds.
CREATE TABLE reconciliation_settlement (
    settlement_id     uuid PRIMARY KEY,
    reconciliation_id uuid NOT NULL REFERENCES reconciliation (reconciliation_id),
    number            integer NOT NULL,
    party_id          integer NOT NULL,
    key               bytea NOT NULL CHECK (octet_length(key) = 16),
    is_settled        boolean NOT NULL,
    by                text NOT NULL CHECK (length(by) BETWEEN 1 AND 200),
    why               text NOT NULL CHECK (length(why) BETWEEN 3 AND 500),
    at                timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX reconciliation_settlement_found ON reconciliation_settlement (party_id, key, settlement_id);

-- The house's alone: what is suggested about a partner is not the partner's to read.
SELECT keep_table('reconciliation', 'fact', 'false');
SELECT keep_table('reconciliation_finding', 'fact', 'false');
SELECT keep_table('reconciliation_settlement', 'fact', 'false');

RESET ROLE;
