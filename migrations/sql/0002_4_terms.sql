-- Sellers' terms: what a month's tiers come to.

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

RESET ROLE;
