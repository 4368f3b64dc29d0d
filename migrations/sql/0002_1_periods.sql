-- Periods that close, and the daily balances that keep closing fast.

SET LOCAL ROLE exchange_owner;

-- --- periods -------------------------------------------------------------------------------------
-- Whole days of the house's zone, one after the other without a gap. settled_at: the moment after which
-- whatever writes a transfer unasked (below) began: what a period then holds is all there will be.

ALTER TABLE period
    ADD COLUMN zone text NOT NULL DEFAULT 'UTC',
    ADD COLUMN since timestamptz NOT NULL
        GENERATED ALWAYS AS ((from_day::timestamp) AT TIME ZONE zone) STORED,
    ADD COLUMN until timestamptz NOT NULL
        GENERATED ALWAYS AS ((to_day::timestamp) AT TIME ZONE zone) STORED,
    ADD COLUMN opened_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN opened_by text NOT NULL DEFAULT '',
    ADD COLUMN settled_at timestamptz,
    ADD CONSTRAINT closed_by_somebody CHECK ((closed_at IS NULL) = (closed_by IS NULL));

-- A transfer younger than this is written without a look at the periods; so a period may only close
-- once it ended longer ago. exchange/core/periods.py says it too; a test compares them.
CREATE FUNCTION closing_margin() RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN interval '15 minutes';

-- A period follows the last one, in its zone; it closes once, after it is settled and after the one
-- before it; nothing else about it ever changes.
CREATE FUNCTION keep_periods_in_order() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last record;
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM pg_advisory_xact_lock(hashtext('exchange.periods'));
        SELECT to_day, zone INTO last FROM period ORDER BY to_day DESC LIMIT 1;
        IF FOUND AND (last.to_day, last.zone) <> (NEW.from_day, NEW.zone) THEN
            RAISE EXCEPTION 'the next period begins on % (%)', last.to_day, last.zone
                USING ERRCODE = 'exclusion_violation';
        END IF;
        IF NEW.closed_at IS NOT NULL OR NEW.settled_at IS NOT NULL THEN
            RAISE EXCEPTION 'a period is open when it is made' USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.closed_at IS NOT NULL OR (OLD.from_day, OLD.to_day, OLD.zone) <> (NEW.from_day, NEW.to_day, NEW.zone)
       OR (OLD.opened_at, OLD.opened_by) <> (NEW.opened_at, NEW.opened_by) THEN
        RAISE EXCEPTION 'a period does not change, and a closed one stays closed'
            USING ERRCODE = 'restrict_violation';
    END IF;
    -- OLD.until: a generated column is computed after this.
    IF NEW.closed_at IS NOT NULL AND (NEW.settled_at - closing_margin() < OLD.until) IS NOT FALSE THEN
        RAISE EXCEPTION 'a period closes after it is settled, at least % after its end', closing_margin()
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.closed_at IS NOT NULL
       AND EXISTS (SELECT FROM period WHERE to_day <= NEW.from_day AND closed_at IS NULL) THEN
        RAISE EXCEPTION 'the period before this one is open' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER in_order BEFORE INSERT OR UPDATE ON period
    FOR EACH ROW EXECUTE FUNCTION keep_periods_in_order();

-- Waits for everybody who is writing transfers, and notes that they have ended. In a transaction of its
-- own: sales wait meanwhile, which is the length of one commit; it rather gives up than hold them up.
CREATE FUNCTION settle_period(chosen integer) RETURNS timestamptz LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = public, pg_temp
SET lock_timeout = '1s' AS $$
DECLARE
    moment timestamptz;
BEGIN
    LOCK TABLE transfer IN SHARE MODE;
    UPDATE period SET settled_at = clock_timestamp() WHERE id = chosen AND closed_at IS NULL
    RETURNING settled_at INTO moment;
    RETURN moment;
END
$$;

-- The lock. A transfer stamped within the margin cannot be of a closed period: that one ended longer
-- ago, and whoever wrote such a stamp before it closed was waited for. So a sale pays a comparison. An
-- older stamp looks at its period and holds it: it is closed before, and this is refused, or after, and
-- sees this. It also marks its day's balances as no longer true.
CREATE FUNCTION refuse_closed_period() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    booked date := (NEW.at AT TIME ZONE 'UTC')::date;
    closed timestamptz;
BEGIN
    SELECT p.closed_at INTO closed FROM period p WHERE p.until > NEW.at ORDER BY p.until LIMIT 1
    FOR SHARE;
    IF closed IS NOT NULL THEN
        RAISE EXCEPTION 'the books of % are closed', booked USING ERRCODE = 'restrict_violation';
    END IF;
    IF NOT EXISTS (
        SELECT FROM rollup_day r WHERE r.day = booked AND r.asked_by = pg_current_xact_id()
    ) THEN
        INSERT INTO rollup_day (day, asked, asked_by) VALUES (booked, 1, pg_current_xact_id())
        ON CONFLICT (day) DO UPDATE SET asked = rollup_day.asked + 1, asked_by = excluded.asked_by;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER not_in_a_closed_period BEFORE INSERT ON transfer
    FOR EACH ROW WHEN (NEW.at < clock_timestamp() - interval '15 minutes')
    EXECUTE FUNCTION refuse_closed_period();

-- What an account had when a period closed: debits less credits, as everywhere.
CREATE TABLE period_balance (
    period_id      integer NOT NULL REFERENCES period,
    account_id     bigint NOT NULL REFERENCES account,
    opening_micros bigint NOT NULL,
    debit_micros   bigint NOT NULL CHECK (debit_micros >= 0),
    credit_micros  bigint NOT NULL CHECK (credit_micros >= 0),
    closing_micros bigint NOT NULL GENERATED ALWAYS AS (opening_micros + debit_micros - credit_micros) STORED,
    transfers      bigint NOT NULL CHECK (transfers >= 0),
    PRIMARY KEY (period_id, account_id)
);

-- A line of the checklist that did not hold and was let pass, by whom and why. found: what it said.
CREATE TABLE period_waiver (
    period_id integer NOT NULL REFERENCES period,
    line      text NOT NULL CHECK (line NOT IN ('lock', 'rollups', 'proof')),
    found     text NOT NULL,
    by        text NOT NULL CHECK (length(by) BETWEEN 1 AND 100),
    why       text NOT NULL CHECK (length(why) BETWEEN 3 AND 500),
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (period_id, line)
);

-- What returns of a contract's sales in open windows are expected to cost the house: what it loses if
-- all of them come back (loss_micros), times the rate (parts of a million). The rate is of the sales
-- whose windows have closed, drawn to the vertical's where they are few.
CREATE TABLE period_accrual (
    period_id       integer NOT NULL REFERENCES period,
    contract_id     integer NOT NULL REFERENCES contract,
    currency        text NOT NULL,
    open_sales      integer NOT NULL CHECK (open_sales >= 0),
    open_micros     bigint NOT NULL CHECK (open_micros >= 0),
    loss_micros     bigint NOT NULL CHECK (loss_micros >= 0),
    ended_sales     integer NOT NULL CHECK (ended_sales >= 0),
    ended_micros    bigint NOT NULL CHECK (ended_micros >= 0),
    credited_micros bigint NOT NULL CHECK (credited_micros BETWEEN 0 AND ended_micros),
    vertical_rate   integer NOT NULL CHECK (vertical_rate BETWEEN 0 AND 1000000),
    rate            integer NOT NULL CHECK (rate BETWEEN 0 AND 1000000),
    amount_micros   bigint NOT NULL CHECK (amount_micros BETWEEN 0 AND loss_micros),
    PRIMARY KEY (period_id, contract_id, currency)
);

-- --- what finance books by hand -------------------------------------------------------------------

-- An adjustment of a party's balance, or what it will never pay. amount_micros is as the party's
-- balance grows: what a buyer owes, what a seller is owed. cites: the document or period it concerns.
CREATE TABLE book_entry (
    entry_id      uuid PRIMARY KEY,
    key           text NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 255),
    kind          text NOT NULL CHECK (kind IN ('adjustment', 'write_off')),
    party_id      integer NOT NULL REFERENCES party,
    currency      text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount_micros bigint NOT NULL CHECK (amount_micros <> 0),
    cites         text NOT NULL DEFAULT '' CHECK (length(cites) <= 140),
    by            text NOT NULL CHECK (length(by) BETWEEN 1 AND 100),
    why           text NOT NULL CHECK (length(why) BETWEEN 3 AND 500),
    at            timestamptz NOT NULL
);
CREATE INDEX book_entry_of_party ON book_entry (party_id, currency, entry_id);

-- A sale whose price was agreed to be another, after the fact. credited_micros: what of it lowers the
-- price that was sold at, within attempt.credited_micros; raised_micros: what raises it above that, or
-- (below zero) takes back of such a raise.
CREATE TABLE price_correction (
    correction_id   uuid PRIMARY KEY,
    key             text NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 255),
    lead_id         uuid NOT NULL,
    day             date NOT NULL,
    attempt_id      uuid NOT NULL,
    raised_micros   bigint NOT NULL,
    credited_micros bigint NOT NULL CHECK (credited_micros >= 0),
    by              text NOT NULL CHECK (length(by) BETWEEN 1 AND 100),
    why             text NOT NULL CHECK (length(why) BETWEEN 3 AND 500),
    at              timestamptz NOT NULL,
    CONSTRAINT one_way CHECK (raised_micros <= 0 OR credited_micros = 0),
    CONSTRAINT something CHECK (raised_micros <> 0 OR credited_micros <> 0)
);
CREATE INDEX price_correction_of_sale ON price_correction (lead_id, attempt_id);

-- --- daily balances ------------------------------------------------------------------------------
-- What an account was debited and credited on a day of UTC, by the transfers' own moments.

CREATE TABLE account_day (
    account_id    bigint NOT NULL REFERENCES account,
    day           date NOT NULL,
    debit_micros  bigint NOT NULL CHECK (debit_micros >= 0),
    credit_micros bigint NOT NULL CHECK (credit_micros >= 0),
    transfers     bigint NOT NULL CHECK (transfers >= 0),
    PRIMARY KEY (account_id, day)
);

-- A day's balances are true while done = asked: whoever writes a transfer of a day gone by asks.
CREATE TABLE rollup_day (
    day       date PRIMARY KEY,
    asked     bigint NOT NULL DEFAULT 0,
    asked_by  xid8,
    done      bigint NOT NULL DEFAULT -1 CHECK (done <= asked),
    rolled_at timestamptz
);

-- The midnight (UTC) up to which balances before a moment may be taken from account_day; what follows
-- is in transfer alone. It ends where the first days without a gap end, or one is no longer true.
-- -infinity: nothing is rolled up, or what came first no longer holds.
CREATE FUNCTION rolled_until(before timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH run AS (
        SELECT day, done = asked AS is_true,
               day - (row_number() OVER (ORDER BY day))::integer AS island,
               first_value(day) OVER (ORDER BY day) AS first
        FROM rollup_day
    ),
    edge AS (
        SELECT min(day) AS first,
               least(min(day) FILTER (WHERE NOT is_true),
                     max(day) FILTER (WHERE island = first - 1) + 1,
                     (before AT TIME ZONE 'UTC')::date) AS until
        FROM run
    )
    SELECT CASE WHEN until > first THEN until::timestamp AT TIME ZONE 'UTC' ELSE '-infinity' END
    FROM edge;
END;

-- What every account was debited and credited before a moment, from the rolled up days and the rest.
CREATE FUNCTION balances_before(moment timestamptz)
RETURNS TABLE (account_id bigint, debit_micros bigint, credit_micros bigint, transfers bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.account_id, sum(s.debit)::bigint, sum(s.credit)::bigint, sum(s.number)::bigint
    FROM (
        SELECT d.account_id, d.debit_micros AS debit, d.credit_micros AS credit,
               d.transfers AS number
        FROM account_day d
        WHERE d.day < (SELECT (rolled_until(moment) AT TIME ZONE 'UTC')::date)
        UNION ALL
        SELECT side.account_id, side.debit, side.credit, 1
        FROM transfer t
        CROSS JOIN LATERAL (
            VALUES (t.debit_account, t.amount_micros, 0), (t.credit_account, 0, t.amount_micros)
        ) AS side (account_id, debit, credit)
        WHERE t.at >= (SELECT rolled_until(moment)) AND t.at < moment
          AND t.day <= (moment AT TIME ZONE 'UTC')::date
    ) s
    GROUP BY s.account_id;
END;

SELECT keep_table('period_balance', 'fact',
    'account_id IN (SELECT a.id FROM account a WHERE a.party_id = reading_party())');
SELECT keep_table('period_waiver', 'fact', 'false');
SELECT keep_table('period_accrual', 'fact', 'false');
SELECT keep_table('book_entry', 'fact', 'party_id = reading_party()');
SELECT keep_table('price_correction', 'fact', 'false');
SELECT keep_table('account_day', 'projection',
    'account_id IN (SELECT a.id FROM account a WHERE a.party_id = reading_party())');
SELECT keep_table('rollup_day', 'projection', 'true');
GRANT UPDATE (debit_micros, credit_micros, transfers) ON account_day TO exchange_app;
GRANT UPDATE (asked, done, rolled_at) ON rollup_day TO exchange_app;

REVOKE ALL ON FUNCTION closing_margin(), keep_periods_in_order(), settle_period(integer),
    refuse_closed_period(), rolled_until(timestamptz), balances_before(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION closing_margin(), settle_period(integer) TO exchange_app;
GRANT EXECUTE ON FUNCTION rolled_until(timestamptz), balances_before(timestamptz) TO exchange_app, exchange_reader;

RESET ROLE;
