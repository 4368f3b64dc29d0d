-- Sellers' terms: what a month's tiers come to; returned leads that are offered again.

SET LOCAL ROLE exchange_owner;

-- What a seller's tiers add to the payouts of one month, in parts: the first when the month is over,
-- further ones when returns change it. due_micros: all that they add, known at that moment;
-- booked_micros: what this part adds, or takes back. Its transfer's subject is the settlement.
CREATE TABLE terms_settlement (
    settlement_id uuid PRIMARY KEY,
    seller_id     integer NOT NULL REFERENCES seller (id),
    month         text NOT NULL CHECK (month ~ '^\d{4}-(0[1-9]|1[0-2])$'),
    zone          text NOT NULL,
    currency      text NOT NULL,
    part          smallint NOT NULL CHECK (part > 0),
    leads         bigint NOT NULL CHECK (leads >= 0),
    money_micros  bigint NOT NULL CHECK (money_micros >= 0),
    due_micros    bigint NOT NULL CHECK (due_micros >= 0),
    booked_micros bigint NOT NULL CHECK (booked_micros <> 0),
    words         text NOT NULL,
    by            text NOT NULL,
    at            timestamptz NOT NULL,
    UNIQUE (seller_id, month, currency, part)
);
SELECT keep_table('terms_settlement', 'fact', 'seller_id = reading_party()');

-- The parts of a month come one after the other and add up to what is due.
CREATE FUNCTION refuse_parts_that_do_not_add_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    parts integer;
    booked bigint;
BEGIN
    SELECT count(*), coalesce(sum(booked_micros), 0) INTO parts, booked
    FROM terms_settlement s
    WHERE s.seller_id = NEW.seller_id AND s.month = NEW.month AND s.currency = NEW.currency;
    IF NEW.part <> parts + 1 OR booked + NEW.booked_micros <> NEW.due_micros THEN
        RAISE EXCEPTION 'part % of % does not add up: % booked before, % due', NEW.part, NEW.month,
            booked, NEW.due_micros USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER parts_add_up BEFORE INSERT ON terms_settlement
    FOR EACH ROW EXECUTE FUNCTION refuse_parts_that_do_not_add_up();
REVOKE ALL ON FUNCTION refuse_parts_that_do_not_add_up() FROM PUBLIC;

-- Returned leads that are offered again. A row is a fact: released, written with the INTENT of the
-- first buyer of its leg; or not, when it came to none and why. So each return is looked at once.
CREATE TABLE resale (
    resale_id    uuid PRIMARY KEY,
    lead_id      uuid NOT NULL,
    day          date NOT NULL,
    return_id    uuid NOT NULL,
    leg          smallint NOT NULL CHECK (leg > 1),
    released     boolean NOT NULL,
    rule         text NOT NULL,
    book_version integer NOT NULL,
    by           text NOT NULL,
    why          text NOT NULL,
    at           timestamptz NOT NULL,
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    )
);
CREATE UNIQUE INDEX resale_once_per_return ON resale (return_id) WHERE released;
CREATE UNIQUE INDEX resale_once_per_leg ON resale (lead_id, day, leg) WHERE released;
CREATE INDEX resale_of_return ON resale (return_id);
SELECT keep_table('resale', 'fact',
    'EXISTS (SELECT FROM lead l WHERE l.lead_id = resale.lead_id AND l.day = resale.day
             AND l.seller_id = reading_party())');
CREATE INDEX return_case_granted ON return_case (decided_at) WHERE state = 'granted';

-- A lead moves back from sold to selling, and nothing else is new.
CREATE OR REPLACE FUNCTION is_move(noun text, old_state text, new_state text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (noun, old_state, new_state) IN (
    ('lead', 'received', 'selling'), ('lead', 'received', 'unsold'), ('lead', 'received', 'erased'),
    ('lead', 'selling', 'selling'), ('lead', 'selling', 'sold'), ('lead', 'selling', 'unsold'),
    ('lead', 'selling', 'in_doubt'),
    ('lead', 'in_doubt', 'sold'), ('lead', 'in_doubt', 'unsold'), ('lead', 'in_doubt', 'selling'),
    ('lead', 'sold', 'erased'), ('lead', 'unsold', 'erased'), ('lead', 'sold', 'selling'),
    ('attempt', 'reserved', 'posting'),
    ('attempt', 'posting', 'voided'), ('attempt', 'posting', 'rejected'),
    ('attempt', 'posting', 'unknown'), ('attempt', 'posting', 'sold'),
    ('attempt', 'unknown', 'sold'), ('attempt', 'unknown', 'rejected'),
    ('attempt', 'unknown', 'written_off'),
    ('return', 'requested', 'granted'), ('return', 'requested', 'denied'),
    ('return', 'requested', 'referred'), ('return', 'requested', 'lapsed'),
    ('return', 'referred', 'granted'), ('return', 'referred', 'denied'),
    ('return', 'referred', 'lapsed'),
    ('return', 'denied', 'appealed'), ('return', 'appealed', 'granted'),
    ('return', 'appealed', 'denied')
);

-- Whether a sale was given back whole: all of its price is credited, and granted returns say so. Once
-- true it stays so: a credit only grows, and a granted return is granted.
CREATE FUNCTION is_returned(of_lead uuid, on_day date, of_attempt uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM attempt a
        WHERE a.lead_id = of_lead AND a.day = on_day AND a.attempt_id = of_attempt
          AND a.state = 'sold' AND a.price_micros > 0 AND a.credited_micros = a.price_micros
          AND a.price_micros = (
              SELECT sum(r.credit_micros) FROM return_case r
              WHERE r.lead_id = of_lead AND r.day = on_day AND r.attempt_id = of_attempt
                AND r.state = 'granted'
          )
    )
$$;

-- The market that a sale was made in: its lead's, or that of the resale of its leg.
CREATE FUNCTION market_of_sale(of_lead uuid, of_leg smallint, lead_market integer) RETURNS integer
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN of_leg = 1 THEN lead_market ELSE coalesce((
        SELECT r.book_version FROM resale r
        WHERE r.lead_id = of_lead AND r.day = lead_day(of_lead) AND r.leg = of_leg AND r.released
    ), lead_market) END
$$;

-- The slot of a live attempt stays its own, but that of a sale that was returned in full.
CREATE OR REPLACE FUNCTION refuse_taking_a_live_slot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM attempt a
        WHERE a.lead_id = OLD.lead_id AND a.day = OLD.day AND a.attempt_id = OLD.attempt_id
          AND (a.state IN ('posting', 'unknown')
               OR a.state = 'sold' AND NOT is_returned(a.lead_id, a.day, a.attempt_id))
    ) THEN
        RAISE EXCEPTION 'sale slot % of lead % belongs to a live attempt', OLD.slot, OLD.lead_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;

-- A lead is sold again only when every sale of it was returned in full.
CREATE FUNCTION refuse_selling_what_is_sold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM attempt a
        WHERE a.lead_id = OLD.lead_id AND a.day = OLD.day AND a.state = 'sold'
          AND NOT is_returned(a.lead_id, a.day, a.attempt_id)
    ) THEN
        RAISE EXCEPTION 'lead % is sold, and was not returned in full', OLD.lead_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER resold_only_if_returned BEFORE UPDATE OF state ON lead
    FOR EACH ROW WHEN (OLD.state = 'sold' AND NEW.state = 'selling')
    EXECUTE FUNCTION refuse_selling_what_is_sold();

-- Nobody that had a lead before is given it again in a later leg, whatever became of it then.
CREATE FUNCTION refuse_whoever_had_it() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM attempt a
        WHERE a.lead_id = NEW.lead_id AND a.day = NEW.day AND a.buyer_id = NEW.buyer_id
          AND a.leg < NEW.leg
    ) THEN
        RAISE EXCEPTION 'buyer % had lead % before', NEW.buyer_id, NEW.lead_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER resold_to_others BEFORE INSERT ON attempt
    FOR EACH ROW WHEN (NEW.leg > 1) EXECUTE FUNCTION refuse_whoever_had_it();

REVOKE ALL ON FUNCTION is_returned(uuid, date, uuid), market_of_sale(uuid, smallint, integer), refuse_selling_what_is_sold(),
    refuse_whoever_had_it() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION is_returned(uuid, date, uuid), market_of_sale(uuid, smallint, integer)
    TO exchange_app, exchange_reader;

RESET ROLE;
