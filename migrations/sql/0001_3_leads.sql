-- The lead group: everything that belongs to one lead carries its id (a ping's id is its lead's id)
-- and the day the id was made on. So partitions, unique keys and a later distribution over machines
-- all work with one key, and a commit never leaves its lead's shard.
--
-- Columns are those of the row structs of exchange/core/records.py. No foreign keys here: each would
-- write its parent row once more per commit; the whole group is written by one writer, in one
-- transaction, and the fences below are unique indexes, CHECKs and compare-and-set.
-- The day in a CHECK is written out where lead_day(id) would do: a CHECK is set up anew by every
-- statement, and a function in it is looked up and unfolded each time.
-- Money is bigint micros; a hash is 32 bytes, so hex text that lost its \x is refused.

-- One row per ping. bids is the compact JSON text {"answers": [...], "ranking": [...]} as bytes:
-- read by explain alone, never parsed here. Only the fields that may be pinged are kept.
CREATE TABLE ping (
    ping_id       uuid NOT NULL,
    day           date NOT NULL,
    seller_id     integer NOT NULL,
    source_id     integer NOT NULL,
    sub_id        text,
    vertical_id   integer NOT NULL,
    external_id   text,
    test          boolean NOT NULL,
    direct        boolean NOT NULL,
    received_at   timestamptz NOT NULL,
    tmax_ms       integer,
    fields        jsonb NOT NULL,
    consent       jsonb,
    gated         text[] NOT NULL,
    outcome       text NOT NULL CHECK (outcome IN ('offer', 'no_offer')),
    reason        integer,
    payout_micros bigint CHECK (payout_micros >= 0),
    floor_micros  bigint NOT NULL,
    currency      text,
    expires_at    timestamptz,
    eligible      integer NOT NULL,
    bids          bytea NOT NULL,
    reason_counts jsonb NOT NULL,
    book_version  integer NOT NULL,
    mask_id       bigint NOT NULL,
    took_ms       double precision NOT NULL,
    waited_ms     double precision NOT NULL,
    added_ms      double precision NOT NULL,
    late_ms       double precision NOT NULL,
    worker        text NOT NULL,
    PRIMARY KEY (ping_id, day),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(ping_id) AT TIME ZONE 'UTC')::date) IS TRUE
    )
) PARTITION BY RANGE (day);

CREATE TABLE lead (
    lead_id                uuid NOT NULL,
    day                    date NOT NULL,
    seller_id              integer NOT NULL,
    source_id              integer NOT NULL,
    sub_id                 text,
    vertical_id            integer NOT NULL,
    external_id            text,
    state                  text NOT NULL CHECK (
        state IN ('received', 'selling', 'sold', 'unsold', 'in_doubt', 'erased')
    ),
    mode                   text NOT NULL CHECK (mode IN ('exclusive', 'shared')),
    max_sales              smallint NOT NULL CHECK (max_sales > 0),
    direct                 boolean NOT NULL,
    promised_payout_micros bigint NOT NULL CHECK (promised_payout_micros >= 0),
    min_payout_micros      bigint NOT NULL CHECK (min_payout_micros >= 0),
    floor_micros           bigint NOT NULL,
    currency               text NOT NULL,
    consent_kind           text NOT NULL,
    custody_seq            integer NOT NULL,
    custody_head           bytea NOT NULL CHECK (octet_length(custody_head) = 32),
    book_version           integer NOT NULL,
    mask_id                bigint NOT NULL,
    offer                  jsonb NOT NULL,
    boot_id                text NOT NULL,
    test                   boolean NOT NULL,
    received_at            timestamptz NOT NULL,
    updated_at             timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (lead_id, day),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    )
) PARTITION BY RANGE (day);
CREATE INDEX lead_open ON lead (boot_id) WHERE state IN ('received', 'selling', 'in_doubt');
CREATE INDEX lead_external ON lead (seller_id, external_id) WHERE external_id IS NOT NULL;

-- The sealed record, consent and salts, under a role of their own. Erased: the keys are gone.
CREATE TABLE lead_private (
    lead_id     uuid NOT NULL,
    day         date NOT NULL,
    key_epoch   integer NOT NULL,
    wrapped_dek bytea,
    sealed      bytea,
    erased_at   timestamptz,
    PRIMARY KEY (lead_id, day),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    ),
    CONSTRAINT erased_means_gone CHECK (
        CASE WHEN erased_at IS NULL THEN wrapped_dek IS NOT NULL AND sealed IS NOT NULL
             ELSE wrapped_dek IS NULL AND sealed IS NULL END
    )
) PARTITION BY RANGE (day);

-- Keyed hashes of what identifies the consumer; the pepper's epoch says which key.
CREATE TABLE person_key (
    lead_id      uuid NOT NULL,
    day          date NOT NULL,
    vertical_id  integer NOT NULL,
    kind         text NOT NULL,
    pepper_epoch integer NOT NULL,
    hmac         bytea NOT NULL CHECK (octet_length(hmac) BETWEEN 16 AND 32),
    PRIMARY KEY (lead_id, day, kind, pepper_epoch, hmac),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    )
) PARTITION BY RANGE (day);
CREATE INDEX person_key_found ON person_key (hmac, kind, vertical_id);

CREATE TABLE attempt (
    attempt_id       uuid NOT NULL,
    lead_id          uuid NOT NULL,
    day              date NOT NULL,
    seller_id        integer NOT NULL,
    buyer_id         integer NOT NULL,
    contract_id      integer NOT NULL,
    contract_version integer NOT NULL,
    rank             smallint NOT NULL CHECK (rank > 0),
    leg              smallint NOT NULL,
    state            text NOT NULL DEFAULT 'posting' CHECK (
        state IN ('reserved', 'posting', 'voided', 'rejected', 'unknown', 'sold', 'written_off')
    ),
    price_micros     bigint NOT NULL CHECK (price_micros >= 0),
    payout_micros    bigint NOT NULL CHECK (payout_micros >= 0),
    fee_micros       bigint NOT NULL,
    credited_micros  bigint NOT NULL DEFAULT 0,
    currency         text NOT NULL,
    buyer_bid_ref    text,
    bid_expires_at   timestamptz,
    deadline_at      timestamptz NOT NULL,
    next_check_at    timestamptz,
    checks           integer NOT NULL DEFAULT 0,
    boot_id          text NOT NULL,
    cap_mode         text NOT NULL CHECK (cap_mode IN ('fast', 'strict')),
    cap_sq           bigint NOT NULL,
    windows          jsonb NOT NULL,
    slots            smallint[] NOT NULL,
    buyer_ref        text,
    buyer_reason     text,
    resolved_by      text,
    booked_on        date,
    test             boolean NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (lead_id, day, attempt_id),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    ),
    CONSTRAINT price_is_payout_and_fee CHECK (price_micros = payout_micros + fee_micros),
    CONSTRAINT credited_within_price CHECK (credited_micros BETWEEN 0 AND price_micros)
) PARTITION BY RANGE (day);
-- A buyer has one live attempt, or one sale, per lead: a returned sale included, so that it is not
-- sold the same consumer twice.
CREATE UNIQUE INDEX attempt_one_live ON attempt (lead_id, day, buyer_id)
    WHERE state IN ('posting', 'unknown', 'sold');
CREATE INDEX attempt_id_found ON attempt (attempt_id);
CREATE INDEX attempt_due ON attempt (next_check_at) WHERE state IN ('posting', 'unknown');
CREATE INDEX attempt_of_boot ON attempt (boot_id, updated_at);
CREATE INDEX attempt_of_buyer ON attempt (buyer_id, created_at);

-- One row per sale a lead can have; an exclusive attempt takes all of them. NULL: free again, which a
-- slot becomes only once its attempt is no longer live (trigger).
--   INSERT ... ON CONFLICT (lead_id, day, slot) DO UPDATE SET attempt_id = excluded.attempt_id
--   WHERE sale_slot.attempt_id IS NULL     and count the rows
CREATE TABLE sale_slot (
    lead_id    uuid NOT NULL,
    day        date NOT NULL,
    slot       smallint NOT NULL CHECK (slot > 0),
    attempt_id uuid,
    PRIMARY KEY (lead_id, day, slot),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    )
) PARTITION BY RANGE (day);

-- The fact behind a state. (attempt_id, state) also marks its commit: a lost connection asks for it.
CREATE TABLE attempt_event (
    attempt_id uuid NOT NULL,
    lead_id    uuid NOT NULL,
    day        date NOT NULL,
    state      text NOT NULL,
    at         timestamptz NOT NULL,
    detail     jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (lead_id, day, attempt_id, state),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    )
) PARTITION BY RANGE (day);
CREATE INDEX attempt_event_doubts ON attempt_event (at) WHERE state = 'unknown';

-- bytes are the evidence, exactly as hashed. xact orders events by transaction for the sequencer: a
-- serial number would let a slow transaction appear behind one that was already read.
CREATE TABLE custody_event (
    lead_id uuid NOT NULL,
    day     date NOT NULL,
    seq     integer NOT NULL CHECK (seq >= 0),
    kind    text NOT NULL,
    bytes   bytea NOT NULL,
    prev    bytea NOT NULL CHECK (octet_length(prev) IN (0, 32)),
    hash    bytea NOT NULL CHECK (octet_length(hash) = 32),
    at      timestamptz NOT NULL,
    xact    xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (lead_id, day, seq),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    )
) PARTITION BY RANGE (day);
CREATE INDEX custody_event_in_order ON custody_event (xact, lead_id, seq);

-- A leaf of the Merkle log. The log is one for the house and outlives partitions, so it has none.
CREATE TABLE custody_leaf (
    leaf_index bigint PRIMARY KEY CHECK (leaf_index >= 0),
    lead_id    uuid NOT NULL,
    day        date NOT NULL,
    seq        integer NOT NULL,
    leaf_hash  bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
    epoch      bigint NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (lead_id, day, seq),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    )
);

CREATE TABLE outbox (
    outbox_id   uuid NOT NULL,
    lead_id     uuid NOT NULL,
    day         date NOT NULL,
    party_id    integer NOT NULL,
    kind        text NOT NULL,
    body        jsonb NOT NULL,
    at          timestamptz NOT NULL,
    xact        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'dead')),
    tries       integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL DEFAULT now(),
    sent_at     timestamptz,
    last_result text,
    PRIMARY KEY (lead_id, day, outbox_id),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    )
) PARTITION BY RANGE (day);
CREATE INDEX outbox_due ON outbox (next_try_at) WHERE state = 'pending';

-- One debit, one credit: balanced by construction. Ids are deterministic, so posting twice is
-- harmless. lead_id is the subject: a lead, or a payment or document with a UUIDv7 of its own.
CREATE TABLE transfer (
    transfer_id    uuid NOT NULL,
    lead_id        uuid NOT NULL,
    day            date NOT NULL,
    subject        text NOT NULL DEFAULT 'lead' CHECK (subject IN ('lead', 'payment', 'document')),
    attempt_id     uuid,
    code           integer NOT NULL,
    debit_account  bigint NOT NULL,
    credit_account bigint NOT NULL,
    amount_micros  bigint NOT NULL CHECK (amount_micros > 0),
    currency       text NOT NULL,
    reverses       uuid,
    part           smallint NOT NULL DEFAULT 0,
    at             timestamptz NOT NULL,
    PRIMARY KEY (lead_id, day, transfer_id),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    ),
    CONSTRAINT two_accounts CHECK (debit_account <> credit_account)
) PARTITION BY RANGE (day);
CREATE UNIQUE INDEX transfer_reversed_once ON transfer (lead_id, day, reverses, part)
    WHERE reverses IS NOT NULL;

-- A return of a sale. cycle: the billing cycle of the sale, whose limits it counts against. wanting:
-- the evidence that a denied claim lacked. replaces: the buyer is owed another lead, not a credit.
CREATE TABLE return_case (
    return_id     uuid NOT NULL,
    lead_id       uuid NOT NULL,
    day           date NOT NULL,
    attempt_id    uuid NOT NULL,
    seller_id     integer NOT NULL,
    buyer_id      integer NOT NULL,
    contract_id   integer NOT NULL,
    state         text NOT NULL DEFAULT 'requested' CHECK (
        state IN ('requested', 'granted', 'denied', 'referred', 'lapsed', 'appealed')
    ),
    reason        text NOT NULL,
    evidence      jsonb NOT NULL DEFAULT '{}',
    wanting       text[] NOT NULL DEFAULT '{}',
    rule          text,
    credit_micros bigint NOT NULL DEFAULT 0 CHECK (credit_micros >= 0),
    clawback_micros bigint NOT NULL DEFAULT 0 CHECK (clawback_micros >= 0),
    replaces      boolean NOT NULL DEFAULT false,
    currency      text NOT NULL,
    test          boolean NOT NULL,
    cycle         text NOT NULL DEFAULT '',
    idem_key      text CHECK (length(idem_key) BETWEEN 1 AND 255),
    appeals       smallint NOT NULL DEFAULT 0 CHECK (appeals >= 0),
    requested_at  timestamptz NOT NULL,
    due_at        timestamptz,
    decided_at    timestamptz,
    decided_by    text,
    booked_on     date,
    PRIMARY KEY (lead_id, day, return_id),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    )
);
CREATE UNIQUE INDEX return_case_one_open ON return_case (lead_id, day, attempt_id)
    WHERE state IN ('requested', 'referred', 'appealed', 'granted');
CREATE INDEX return_case_due ON return_case (due_at) WHERE state IN ('requested', 'referred', 'appealed');
CREATE UNIQUE INDEX return_case_found ON return_case (return_id);
CREATE UNIQUE INDEX return_case_key ON return_case (buyer_id, idem_key) WHERE idem_key IS NOT NULL;
CREATE INDEX return_case_by_state ON return_case (state, return_id);
CREATE INDEX return_case_of_buyer ON return_case (buyer_id, return_id);
-- What a limit counts: the cases of a contract's sales of one cycle that hold room or took it.
CREATE INDEX return_case_of_cycle ON return_case (contract_id, cycle)
    WHERE state IN ('requested', 'referred', 'appealed', 'granted');
