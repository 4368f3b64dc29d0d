-- Papers and money that moves: numbered documents, payments, and which payment covers which document.
-- All of them are facts. A document is corrected by another that cites it, a match by an unmatch.

SET LOCAL ROLE exchange_owner;

-- What a month-end reads by: a transfer's moment. A partition holds the leads of one day, so nearly all
-- of its rows were booked that day and what came later lies together at its end: block ranges find it.
-- A row pays a third of a microsecond for them; a month of many is read in a fifth of the time.
CREATE INDEX transfer_by_time ON transfer USING brin (at) WITH (pages_per_range = 16);

-- The last number taken, by kind and year of issue. Its row is the lock under which numbers are taken.
CREATE TABLE document_number (
    kind text NOT NULL,
    year integer NOT NULL CHECK (year BETWEEN 2000 AND 9999),
    last integer NOT NULL DEFAULT 0 CHECK (last >= 0),
    PRIMARY KEY (kind, year)
);

-- since, until: the period's moments, by which it covers transfers. total_micros moves the party's
-- balance: a credit memo is below zero. cites: the documents its lines take back of, and how much of
-- each. cancels: the document this one takes back whole. content: canonical JSON, exactly as issued;
-- every rendering is made from it.
CREATE TABLE document (
    document_id  uuid PRIMARY KEY,
    kind         text NOT NULL CHECK (kind IN ('invoice', 'credit_memo', 'payout_statement', 'cancellation')),
    year         integer NOT NULL,
    serial       integer NOT NULL CHECK (serial > 0),
    number       text NOT NULL UNIQUE GENERATED ALWAYS AS (
        CASE kind WHEN 'invoice' THEN 'INV' WHEN 'credit_memo' THEN 'CM'
                  WHEN 'payout_statement' THEN 'PS' ELSE 'CX' END
        || '-' || year::text || '-'
        || CASE WHEN serial < 1000000 THEN lpad(serial::text, 6, '0') ELSE serial::text END
    ) STORED,
    party_id     integer NOT NULL REFERENCES party,
    currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    first_day    date NOT NULL,
    last_day     date NOT NULL,
    zone         text NOT NULL,
    since        timestamptz NOT NULL,
    until        timestamptz NOT NULL,
    total_micros bigint NOT NULL,
    line_count   integer NOT NULL CHECK (line_count >= 0),
    issued_on    date NOT NULL,
    due_on       date NOT NULL,
    cites        text[] NOT NULL DEFAULT '{}',
    cited_micros bigint[] NOT NULL DEFAULT '{}',
    cancels      uuid UNIQUE REFERENCES document,
    content      bytea NOT NULL,
    hash         bytea NOT NULL,
    issued_at    timestamptz NOT NULL DEFAULT now(),
    issued_by    text NOT NULL CHECK (length(issued_by) BETWEEN 1 AND 100),
    UNIQUE (kind, year, serial),
    CONSTRAINT days_in_order CHECK (first_day <= last_day AND since < until AND issued_on <= due_on),
    CONSTRAINT hash_of_content CHECK (hash = sha256(content)),
    CONSTRAINT cancellation_cancels CHECK ((kind = 'cancellation') = (cancels IS NOT NULL)),
    CONSTRAINT each_cited_with_its_amount CHECK (cardinality(cites) = cardinality(cited_micros))
);
-- Not compressed: Postgres's own way takes seven times as long as writing it plainly.
ALTER TABLE document ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX document_of_party ON document (party_id, currency, since);
CREATE INDEX document_in_order ON document (issued_at, document_id);

-- Numbers without a gap, and no transfer on two documents. A number follows the last one of its kind
-- and year, under that row's lock; a period that a document in force covers is not covered again.
CREATE FUNCTION number_document() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE document_number SET last = NEW.serial
    WHERE kind = NEW.kind AND year = NEW.year AND last = NEW.serial - 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'number % of % does not follow the last one', NEW.serial, NEW.kind
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.kind = 'cancellation' THEN
        PERFORM lock_party_papers(NEW.party_id);
        IF NOT EXISTS (
            SELECT FROM document d
            WHERE d.document_id = NEW.cancels AND d.kind <> 'cancellation'
              AND (d.party_id, d.currency, d.since, d.until, -d.total_micros)
                  = (NEW.party_id, NEW.currency, NEW.since, NEW.until, NEW.total_micros)
        ) THEN
            RAISE EXCEPTION 'a cancellation takes back one whole document'
                USING ERRCODE = 'restrict_violation';
        END IF;
        IF EXISTS (
            SELECT FROM payment_match m
            WHERE m.document_id = NEW.cancels AND NOT EXISTS (
                SELECT FROM payment_unmatch u WHERE u.payment_id = m.payment_id AND u.part = m.part)
        ) THEN
            RAISE EXCEPTION 'payments are matched to this document'
                USING ERRCODE = 'restrict_violation';
        END IF;
    ELSIF EXISTS (
        SELECT FROM document d
        WHERE d.party_id = NEW.party_id AND d.currency = NEW.currency AND d.kind = NEW.kind
          AND d.since < NEW.until AND d.until > NEW.since
          AND NOT EXISTS (SELECT FROM document c WHERE c.cancels = d.document_id)
    ) THEN
        RAISE EXCEPTION 'a % in force covers days of this one', NEW.kind
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER numbered BEFORE INSERT ON document FOR EACH ROW EXECUTE FUNCTION number_document();

-- A number that was taken has its document when the transaction ends, and numbers count up by one.
CREATE FUNCTION refuse_unused_number() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.last > 0 AND NOT EXISTS (
        SELECT FROM document d
        WHERE d.kind = NEW.kind AND d.year = NEW.year AND d.serial = NEW.last
    ) THEN
        RAISE EXCEPTION 'number % of % has no document', NEW.last, NEW.kind
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER used AFTER INSERT OR UPDATE ON document_number
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_unused_number();
CREATE FUNCTION refuse_skipping_numbers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.kind, NEW.year, NEW.last) <> (OLD.kind, OLD.year, OLD.last + 1) THEN
        RAISE EXCEPTION 'numbers of % count up by one', NEW.kind USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER counts_up BEFORE UPDATE ON document_number
    FOR EACH ROW EXECUTE FUNCTION refuse_skipping_numbers();

-- Money that moved at the bank. received: from a buyer; paid_out: to a seller; refund: back to a buyer;
-- returned: a payout that came back, whole. value_day is the bank's; the ledger books when it is
-- recorded. key makes recording it twice harmless.
CREATE TABLE payment (
    payment_id    uuid PRIMARY KEY,
    key           text NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 255),
    way           text NOT NULL CHECK (way IN ('received', 'paid_out', 'refund', 'returned')),
    party_id      integer NOT NULL REFERENCES party,
    currency      text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount_micros bigint NOT NULL CHECK (amount_micros > 0),
    value_day     date NOT NULL,
    reference     text NOT NULL DEFAULT '' CHECK (length(reference) <= 140),
    returns       uuid UNIQUE REFERENCES payment,
    by            text NOT NULL CHECK (length(by) BETWEEN 1 AND 100),
    at            timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT return_returns CHECK ((way = 'returned') = (returns IS NOT NULL))
);
CREATE INDEX payment_of_party ON payment (party_id, currency, payment_id);

-- What a payment covers: a document, or the refund that gave it back. part numbers a payment's matches
-- from 1; its transfer is derived from both.
CREATE TABLE payment_match (
    payment_id    uuid NOT NULL REFERENCES payment,
    part          smallint NOT NULL CHECK (part > 0),
    document_id   uuid REFERENCES document,
    refund_id     uuid REFERENCES payment,
    amount_micros bigint NOT NULL CHECK (amount_micros > 0),
    code          integer NOT NULL,
    by            text NOT NULL CHECK (length(by) BETWEEN 1 AND 100),
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payment_id, part),
    CHECK (num_nonnulls(document_id, refund_id) = 1)
);
CREATE INDEX payment_match_of_document ON payment_match (document_id) WHERE document_id IS NOT NULL;
CREATE INDEX payment_match_of_refund ON payment_match (refund_id) WHERE refund_id IS NOT NULL;

-- A match that was wrong.
CREATE TABLE payment_unmatch (
    payment_id uuid NOT NULL,
    part       smallint NOT NULL,
    by         text NOT NULL CHECK (length(by) BETWEEN 1 AND 100),
    why        text NOT NULL CHECK (length(why) BETWEEN 3 AND 500),
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payment_id, part),
    FOREIGN KEY (payment_id, part) REFERENCES payment_match
);

-- Whoever matches, refunds or cancels for a party waits for the others who do.
CREATE FUNCTION lock_party_papers(party integer) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtext('exchange.papers'), party)
$$;

-- Neither a payment nor a document is matched beyond what it is, and never across parties, currencies
-- or ways.
CREATE FUNCTION refuse_overmatch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    paid payment;
    paper document;
    back payment;
BEGIN
    SELECT * INTO STRICT paid FROM payment WHERE payment_id = NEW.payment_id;
    PERFORM lock_party_papers(paid.party_id);
    IF NEW.amount_micros > paid.amount_micros - (
        SELECT coalesce(sum(m.amount_micros), 0) FROM payment_match m
        LEFT JOIN payment_unmatch u USING (payment_id, part)
        WHERE m.payment_id = NEW.payment_id AND u.payment_id IS NULL
    ) THEN
        RAISE EXCEPTION 'payment % has not so much left', NEW.payment_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.refund_id IS NOT NULL THEN
        SELECT * INTO STRICT back FROM payment WHERE payment_id = NEW.refund_id;
        IF paid.way <> 'received' OR back.way <> 'refund'
           OR (back.party_id, back.currency) <> (paid.party_id, paid.currency)
           OR NEW.amount_micros > back.amount_micros - (
               SELECT coalesce(sum(m.amount_micros), 0) FROM payment_match m
               LEFT JOIN payment_unmatch u USING (payment_id, part)
               WHERE m.refund_id = NEW.refund_id AND u.payment_id IS NULL)
        THEN
            RAISE EXCEPTION 'a refund gives back what its buyer paid, once'
                USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF EXISTS (SELECT FROM payment r WHERE r.returns = NEW.payment_id) THEN
        RAISE EXCEPTION 'payment % came back', NEW.payment_id USING ERRCODE = 'restrict_violation';
    END IF;
    SELECT * INTO STRICT paper FROM document WHERE document_id = NEW.document_id;
    IF (paid.way, paper.kind) NOT IN (('received', 'invoice'), ('paid_out', 'payout_statement'))
       OR (paper.party_id, paper.currency) <> (paid.party_id, paid.currency)
       OR EXISTS (SELECT FROM document c WHERE c.cancels = paper.document_id)
       OR NEW.amount_micros > paper.total_micros - (
           SELECT coalesce(sum(m.amount_micros), 0) FROM payment_match m
           LEFT JOIN payment_unmatch u USING (payment_id, part)
           WHERE m.document_id = NEW.document_id AND u.payment_id IS NULL)
    THEN
        RAISE EXCEPTION 'document % is not covered by this payment so far', paper.number
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER within_both BEFORE INSERT ON payment_match
    FOR EACH ROW EXECUTE FUNCTION refuse_overmatch();

-- What comes back is one whole payout that covers no statement any more.
CREATE FUNCTION refuse_wrong_return() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_party_papers(NEW.party_id);
    IF NOT EXISTS (
        SELECT FROM payment p
        WHERE p.payment_id = NEW.returns AND p.way = 'paid_out'
          AND (p.party_id, p.currency, p.amount_micros)
              = (NEW.party_id, NEW.currency, NEW.amount_micros)
    ) OR EXISTS (
        SELECT FROM payment_match m LEFT JOIN payment_unmatch u USING (payment_id, part)
        WHERE m.payment_id = NEW.returns AND u.payment_id IS NULL
    ) THEN
        RAISE EXCEPTION 'what comes back is one whole payout that covers nothing'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER returns_a_payout BEFORE INSERT ON payment
    FOR EACH ROW WHEN (NEW.returns IS NOT NULL) EXECUTE FUNCTION refuse_wrong_return();

SELECT keep_table('document', 'fact', 'party_id = reading_party()');
SELECT keep_table('document_number', 'projection', 'false');
SELECT keep_table('payment', 'fact', 'party_id = reading_party()');
SELECT keep_table('payment_match', 'fact',
    'payment_id IN (SELECT p.payment_id FROM payment p WHERE p.party_id = reading_party())');
SELECT keep_table('payment_unmatch', 'fact',
    'payment_id IN (SELECT p.payment_id FROM payment p WHERE p.party_id = reading_party())');
GRANT UPDATE (last) ON document_number TO exchange_app;
REVOKE ALL ON FUNCTION lock_party_papers(integer), number_document(), refuse_unused_number(),
    refuse_skipping_numbers(), refuse_overmatch(), refuse_wrong_return() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lock_party_papers(integer) TO exchange_app;

RESET ROLE;
