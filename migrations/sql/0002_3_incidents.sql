-- Pauses of sources, incidents at a source, and the payouts that are held because of them.

SET LOCAL ROLE exchange_owner;

-- A source, or a sub_id of it, paused everywhere or at one buyer. The same may be paused for several
-- causes (a person, a rule, an incident): it is paused as long as one of them stands.
-- lift_at: when a rule's pause ends by itself.
CREATE TABLE source_pause (
    pause_id    uuid PRIMARY KEY,
    source_id   integer NOT NULL REFERENCES source,
    sub_id      text CHECK (sub_id <> ''),
    buyer_id    integer REFERENCES buyer,
    incident_id uuid,
    since       timestamptz NOT NULL DEFAULT now(),
    by          text NOT NULL,
    why         text NOT NULL,
    lift_at     timestamptz CHECK (lift_at > since),
    lifted_at   timestamptz,
    lifted_by   text,
    lifted_why  text,
    CONSTRAINT lifted_by_somebody CHECK ((lifted_at IS NULL) = (lifted_by IS NULL))
);
CREATE UNIQUE INDEX source_pause_once ON source_pause (source_id, sub_id, buyer_id, incident_id)
    NULLS NOT DISTINCT WHERE lifted_at IS NULL;
CREATE INDEX source_pause_at_buyer ON source_pause (buyer_id, source_id, since);

-- A source that sent what should not have been sold, from since until before until. seller_bears: its
-- part of every credit, or only what its clawback terms say. The facts stand in incident_event.
CREATE TABLE incident (
    incident_id  uuid PRIMARY KEY,
    seller_id    integer NOT NULL REFERENCES seller,
    source_id    integer NOT NULL REFERENCES source,
    sub_id       text CHECK (sub_id <> ''),
    since        timestamptz NOT NULL,
    until        timestamptz,
    reason       text NOT NULL,
    why          text NOT NULL,
    seller_bears text NOT NULL CHECK (seller_bears IN ('all', 'terms')),
    state        text NOT NULL DEFAULT 'open' CHECK (
        state IN ('open', 'approved', 'booked', 'closed', 'cancelled')
    ),
    opened_at    timestamptz NOT NULL,
    opened_by    text NOT NULL,
    CONSTRAINT until_after_since CHECK (until > since)
);
CREATE INDEX incident_of_source ON incident (source_id, incident_id);

CREATE TABLE incident_event (
    incident_id uuid NOT NULL REFERENCES incident,
    state       text NOT NULL,
    at          timestamptz NOT NULL,
    by          text NOT NULL,
    why         text NOT NULL,
    detail      jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (incident_id, state)
);

-- The sales that an approved incident credits: each becomes something once.
CREATE TABLE incident_sale (
    incident_id     uuid NOT NULL REFERENCES incident,
    lead_id         uuid NOT NULL,
    day             date NOT NULL,
    attempt_id      uuid NOT NULL,
    buyer_id        integer NOT NULL,
    state           text NOT NULL DEFAULT 'due' CHECK (
        state IN ('due', 'credited', 'recovered', 'nothing_left')
    ),
    return_id       uuid,
    credit_micros   bigint NOT NULL DEFAULT 0 CHECK (credit_micros >= 0),
    clawback_micros bigint NOT NULL DEFAULT 0 CHECK (clawback_micros >= 0),
    booked_at       timestamptz,
    PRIMARY KEY (incident_id, lead_id, attempt_id),
    CONSTRAINT day_of_the_id CHECK (
        (day = (uuid_extract_timestamp(lead_id) AT TIME ZONE 'UTC')::date) IS TRUE
    ),
    CONSTRAINT made_good_by_a_return CHECK (
        (state IN ('credited', 'recovered')) = (return_id IS NOT NULL)
    ),
    CONSTRAINT due_until_booked CHECK ((state = 'due') = (booked_at IS NULL))
);
CREATE INDEX incident_sale_due ON incident_sale (incident_id, attempt_id) WHERE state = 'due';

-- What is not paid out to a seller while an incident is open: an amount of a currency, or (both null)
-- everything.
CREATE TABLE payout_hold (
    hold_id       uuid PRIMARY KEY,
    party_id      integer NOT NULL REFERENCES party,
    incident_id   uuid REFERENCES incident,
    currency      text,
    amount_micros bigint CHECK (amount_micros > 0),
    since         timestamptz NOT NULL DEFAULT now(),
    by            text NOT NULL,
    why           text NOT NULL,
    lifted_at     timestamptz,
    lifted_by     text,
    CONSTRAINT amount_of_a_currency CHECK ((currency IS NULL) = (amount_micros IS NULL)),
    CONSTRAINT lifted_by_somebody CHECK ((lifted_at IS NULL) = (lifted_by IS NULL))
);
CREATE INDEX payout_hold_of_party ON payout_hold (party_id) WHERE lifted_at IS NULL;
CREATE INDEX payout_hold_of_incident ON payout_hold (incident_id);

CREATE FUNCTION refuse_wrong_incident_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (
        ('open', 'approved'), ('open', 'cancelled'), ('approved', 'booked'), ('booked', 'closed')
    ) THEN
        RAISE EXCEPTION 'an incident does not move from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER moves_along BEFORE UPDATE OF state ON incident
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION refuse_wrong_incident_move();

-- What was lifted stays lifted, and a sale of an incident is booked once.
CREATE FUNCTION refuse_second_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'this row of % has had its end', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER ends_once BEFORE UPDATE ON source_pause
    FOR EACH ROW WHEN (OLD.lifted_at IS NOT NULL) EXECUTE FUNCTION refuse_second_end();
CREATE TRIGGER ends_once BEFORE UPDATE ON payout_hold
    FOR EACH ROW WHEN (OLD.lifted_at IS NOT NULL) EXECUTE FUNCTION refuse_second_end();
CREATE TRIGGER ends_once BEFORE UPDATE ON incident_sale
    FOR EACH ROW WHEN (OLD.state <> 'due') EXECUTE FUNCTION refuse_second_end();

-- A sale has one open or granted return, and besides one credit by an incident: of what a partial
-- credit left.
DROP INDEX return_case_one_open;
CREATE UNIQUE INDEX return_case_one_open ON return_case (lead_id, day, attempt_id)
    WHERE state IN ('requested', 'referred', 'appealed', 'granted')
      AND rule IS DISTINCT FROM 'incident_credited';
CREATE UNIQUE INDEX return_case_one_incident ON return_case (lead_id, day, attempt_id)
    WHERE rule = 'incident_credited';

-- The sales (state 'sold') and posts in doubt of a source's leads, or those of one sub_id, received from
-- since until before until, as they stand: what was credited, what granted returns took from the
-- seller, by which terms. zone: whose days a clawback window has.
CREATE FUNCTION affected_sales(
    of_source integer, of_sub_id text, since timestamptz, until timestamptz
) RETURNS TABLE (
    attempt_id uuid, lead_id uuid, day date, state text, buyer_id integer, price_micros bigint,
    payout_micros bigint, credited_micros bigint, clawed_micros bigint, currency text,
    sold_at timestamptz, zone text, replaced boolean, open_return uuid, clawback jsonb,
    net_of_returns boolean
) LANGUAGE sql STABLE AS $$
    SELECT a.attempt_id, a.lead_id, a.day, a.state, a.buyer_id, a.price_micros, a.payout_micros,
           a.credited_micros, coalesce(r.clawed_micros, 0), a.currency, e.at,
           coalesce(s.zone, c.doc->>'time_zone', b.zone, 'UTC'), coalesce(r.replaced, false),
           r.open_return, s.clawback,
           coalesce(coalesce(o.payout, s.payout)->>'net_of_returns', 'false')::boolean
    FROM lead l
    JOIN attempt a ON a.lead_id = l.lead_id AND a.day = l.day
                  AND a.state IN ('sold', 'posting', 'unknown') AND NOT a.test
    JOIN contract_version c ON c.contract_id = a.contract_id AND c.version = a.contract_version
    LEFT JOIN attempt_event e ON e.lead_id = a.lead_id AND e.day = a.day
                             AND e.attempt_id = a.attempt_id AND e.state = 'sold'
    LEFT JOIN LATERAL (
        SELECT sum(q.clawback_micros) FILTER (WHERE q.state = 'granted')::bigint AS clawed_micros,
               bool_or(q.state = 'granted' AND q.replaces) AS replaced,
               (array_agg(q.return_id) FILTER (
                   WHERE q.state IN ('requested', 'referred', 'appealed')))[1] AS open_return
        FROM return_case q
        WHERE q.lead_id = a.lead_id AND q.day = a.day AND q.attempt_id = a.attempt_id
    ) r ON true
    LEFT JOIN LATERAL (
        SELECT v.doc->>'time_zone' AS zone FROM buyer_version v
        WHERE v.buyer_id = a.buyer_id AND v.market_version <= l.book_version
        ORDER BY v.version DESC LIMIT 1
    ) b ON true
    LEFT JOIN LATERAL (
        SELECT v.doc->'clawback' AS clawback, v.doc->>'time_zone' AS zone, v.doc->'payout' AS payout
        FROM seller_version v
        WHERE v.seller_id = a.seller_id AND v.market_version <= l.book_version
        ORDER BY v.version DESC LIMIT 1
    ) s ON true
    LEFT JOIN LATERAL (
        SELECT v.doc->'payout' AS payout FROM source_version v
        WHERE v.source_id = l.source_id AND v.market_version <= l.book_version
        ORDER BY v.version DESC LIMIT 1
    ) o ON true
    WHERE l.source_id = of_source AND (of_sub_id IS NULL OR l.sub_id = of_sub_id)
      AND l.day BETWEEN (since AT TIME ZONE 'UTC')::date - 1
                    AND coalesce((until AT TIME ZONE 'UTC')::date, 'infinity')
      AND l.received_at >= since AND l.received_at < coalesce(until, 'infinity')
$$;
REVOKE ALL ON FUNCTION affected_sales(integer, text, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION affected_sales(integer, text, timestamptz, timestamptz) TO exchange_app;

-- The cleared bits of sources that are paused at buyers: [source, sub_id, mask], as explain needs them.
ALTER TABLE closed_mask ADD COLUMN sources jsonb NOT NULL DEFAULT '[]';

SELECT keep_table('source_pause', 'projection',
    'buyer_id = reading_party() OR buyer_id IS NULL AND source_id IN
     (SELECT s.id FROM source s WHERE s.seller_id = reading_party())');
SELECT keep_table('incident', 'projection', 'false');
SELECT keep_table('incident_event', 'fact', 'false');
SELECT keep_table('incident_sale', 'projection', 'false');
SELECT keep_table('payout_hold', 'projection', 'party_id = reading_party()');

GRANT UPDATE (lifted_at, lifted_by, lifted_why) ON source_pause TO exchange_app;
GRANT UPDATE (state) ON incident TO exchange_app;
GRANT UPDATE (state, return_id, credit_micros, clawback_micros, booked_at)
    ON incident_sale TO exchange_app;
GRANT UPDATE (lifted_at, lifted_by) ON payout_hold TO exchange_app;

RESET ROLE;
