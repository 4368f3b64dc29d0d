-- Reports: the trade of a day, added up, so that a report reads thousands of rows and not millions.
--
-- A tally is a projection of facts, and the job `tallies` keeps it: it adds what happened since the
-- moment in tally_progress, and makes a day anew when the day's facts say otherwise. Nothing here is
-- the truth: `exchange report rebuild` makes any day again from pings, events and transfers.
--
-- Two days must not be mixed. Pings, bids, posts and returns count on the UTC day of their lead (one
-- lead's whole life is in one row, so rates mean something); money counts on the UTC day it was
-- booked (as in the ledger, so that it adds up to it). Tests are in none of it.
-- Money is bigint micros; currencies are part of every key.

SET LOCAL ROLE exchange_owner;

-- The least id of a moment: ids are UUIDv7, so a span of time is a range of ids.
CREATE FUNCTION id_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN rpad(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid;

-- What a transfer is to a report; a test holds it against exchange/core/ledger.py.
CREATE FUNCTION money_kind(code integer) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE
    WHEN code IN (1, 2) THEN 'sale'
    WHEN code IN (101, 102, 3, 4, 103, 104) THEN 'return'
    WHEN code % 100 BETWEEN 10 AND 19 THEN 'payment'
    WHEN code % 100 = 30 THEN 'bad_debt'
    WHEN code % 100 = 40 THEN 'reserve'
    WHEN code % 100 IN (50, 51) THEN 'terms'
    ELSE 'adjustment'
END;

-- Up to which moment the facts of a kind are in. 'settled': every day before it was compared with
-- its facts once more after it had ended.
CREATE TABLE tally_progress (
    name  text PRIMARY KEY CHECK (name IN ('pings', 'leads', 'posts', 'returns', 'money', 'settled')),
    until timestamptz NOT NULL
);

-- A source's day. waited for nobody: what a ping promised (offered) and whether it was taken (leads).
CREATE TABLE ping_daily (
    day            date NOT NULL,
    seller_id      integer NOT NULL,
    source_id      integer NOT NULL,
    vertical_id    integer NOT NULL,
    currency       text NOT NULL,
    pings          bigint NOT NULL DEFAULT 0,
    offers         bigint NOT NULL DEFAULT 0,
    offered_micros bigint NOT NULL DEFAULT 0,
    late           bigint NOT NULL DEFAULT 0,
    leads          bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (day, source_id, vertical_id, currency)
);

-- A source's day at a contract. bids: good ones, those below the floor among them; wins: first of an
-- offer; waited_ms: all invitations together. doubted: posts that were ever in doubt, whatever they
-- came to. price, payout, fee: of the accepted posts, as they were sold.
CREATE TABLE trade_daily (
    day           date NOT NULL,
    seller_id     integer NOT NULL,
    source_id     integer NOT NULL,
    vertical_id   integer NOT NULL,
    buyer_id      integer NOT NULL,
    contract_id   integer NOT NULL,
    currency      text NOT NULL,
    invited       bigint NOT NULL DEFAULT 0,
    bids          bigint NOT NULL DEFAULT 0,
    bid_micros    bigint NOT NULL DEFAULT 0,
    below_floor   bigint NOT NULL DEFAULT 0,
    no_bids       bigint NOT NULL DEFAULT 0,
    timeouts      bigint NOT NULL DEFAULT 0,
    errors        bigint NOT NULL DEFAULT 0,
    wins          bigint NOT NULL DEFAULT 0,
    waited_ms     bigint NOT NULL DEFAULT 0,
    posts         bigint NOT NULL DEFAULT 0,
    accepted      bigint NOT NULL DEFAULT 0,
    rejected      bigint NOT NULL DEFAULT 0,
    not_sent      bigint NOT NULL DEFAULT 0,
    doubted       bigint NOT NULL DEFAULT 0,
    written_off   bigint NOT NULL DEFAULT 0,
    price_micros  bigint NOT NULL DEFAULT 0,
    payout_micros bigint NOT NULL DEFAULT 0,
    fee_micros    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (day, source_id, contract_id, vertical_id, currency),
    CONSTRAINT price_is_payout_and_fee CHECK (price_micros = payout_micros + fee_micros)
);

-- The returns of a day's leads by reason, as they stand. waiting: asked for and not decided.
CREATE TABLE return_daily (
    day             date NOT NULL,
    seller_id       integer NOT NULL,
    source_id       integer NOT NULL,
    vertical_id     integer NOT NULL,
    buyer_id        integer NOT NULL,
    contract_id     integer NOT NULL,
    currency        text NOT NULL,
    reason          text NOT NULL,
    asked           bigint NOT NULL DEFAULT 0,
    granted         bigint NOT NULL DEFAULT 0,
    refused         bigint NOT NULL DEFAULT 0,
    waiting         bigint NOT NULL DEFAULT 0,
    credit_micros   bigint NOT NULL DEFAULT 0,
    clawback_micros bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (day, source_id, contract_id, vertical_id, currency, reason)
);

-- The transfers booked on a day. 0 where a transfer has no source, no contract. cases: sales, or parts
-- of returns. buyer: more owed by buyers; seller: more owed to sellers; house: what the house gained.
-- One debit and one credit each, so a row balances as a transfer does.
CREATE TABLE money_daily (
    day            date NOT NULL,
    seller_id      integer NOT NULL,
    source_id      integer NOT NULL,
    vertical_id    integer NOT NULL,
    buyer_id       integer NOT NULL,
    contract_id    integer NOT NULL,
    currency       text NOT NULL,
    kind           text NOT NULL,
    transfers      bigint NOT NULL DEFAULT 0,
    cases          bigint NOT NULL DEFAULT 0,
    amount_micros  bigint NOT NULL DEFAULT 0,
    buyer_micros   bigint NOT NULL DEFAULT 0,
    seller_micros  bigint NOT NULL DEFAULT 0,
    reserve_micros bigint NOT NULL DEFAULT 0,
    cash_micros    bigint NOT NULL DEFAULT 0,
    house_micros   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (day, kind, source_id, contract_id, seller_id, buyer_id, vertical_id, currency),
    CONSTRAINT balances CHECK (
        buyer_micros + cash_micros = seller_micros + reserve_micros + house_micros
    )
);

-- How much a bid is worth that may be refused or returned, in millionths: what ranks bids where a
-- vertical says so. source_id and contract_id 0: of the vertical as a whole, for who is unknown.
CREATE TABLE quality_factor (
    vertical_id       integer NOT NULL,
    source_id         integer NOT NULL,
    contract_id       integer NOT NULL,
    accept_millionths integer NOT NULL CHECK (accept_millionths BETWEEN 0 AND 1000000),
    return_millionths integer NOT NULL CHECK (return_millionths BETWEEN 0 AND 1000000),
    factor_millionths integer NOT NULL CHECK (factor_millionths BETWEEN 1 AND 1000000),
    at                timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (vertical_id, source_id, contract_id)
);

-- What the tallies find new facts by. A block range index costs an insert next to nothing, and is
-- exact enough, for facts come in the order of their moments.
CREATE INDEX attempt_event_since ON attempt_event USING brin (at)
    WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX transfer_since ON transfer USING brin (at)
    WITH (pages_per_range = 16, autosummarize = on);

-- Rows of trade, returns and money name both sides of the house's margin: parties read their own
-- through the views below.
SELECT keep_table('tally_progress', 'projection', 'true');
SELECT keep_table('ping_daily', 'projection', 'seller_id = reading_party()');
SELECT keep_table('trade_daily', 'projection', 'false');
SELECT keep_table('return_daily', 'projection', 'false');
SELECT keep_table('money_daily', 'projection', 'false');
SELECT keep_table('quality_factor', 'projection', 'false');
GRANT UPDATE (until) ON tally_progress TO exchange_app;
GRANT UPDATE (pings, offers, offered_micros, late, leads) ON ping_daily TO exchange_app;
GRANT UPDATE (
    invited, bids, bid_micros, below_floor, no_bids, timeouts, errors, wins, waited_ms, posts,
    accepted, rejected, not_sent, doubted, written_off, price_micros, payout_micros, fee_micros
) ON trade_daily TO exchange_app;
GRANT UPDATE (
    asked, granted, refused, waiting, credit_micros, clawback_micros
) ON return_daily TO exchange_app;
GRANT UPDATE (
    transfers, cases, amount_micros, buyer_micros, seller_micros, reserve_micros, cash_micros,
    house_micros
) ON money_daily TO exchange_app;
GRANT UPDATE (accept_millionths, return_millionths, factor_millionths, at)
    ON quality_factor TO exchange_app;
REVOKE ALL ON FUNCTION id_floor(timestamptz), money_kind(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION id_floor(timestamptz), money_kind(integer)
    TO exchange_app, exchange_reader;

-- The views people read, in psql too (SET exchange.party_id = '1' for the house). Sum what you need;
-- never across currencies. Days are UTC days.
--
-- report_trade  what happened to a day's leads: pings, bids, posts, sales, returns, by everything.
--               Rows of pings have no buyer, rows of returns alone have a reason.
-- report_pnl    what a day's bookings earned; net is exactly what the house's accounts gained.
-- Both show what the tables below show their reader: the house everything, a party nothing of the
-- other side.
CREATE VIEW report_trade WITH (security_invoker = true) AS
WITH part AS (
    SELECT day, seller_id, source_id, vertical_id, NULL::integer AS buyer_id,
           NULL::integer AS contract_id, currency, NULL::text AS reason, pings, offers,
           offered_micros, late, leads, 0::bigint AS invited, 0::bigint AS bids,
           0::bigint AS bid_micros, 0::bigint AS below_floor, 0::bigint AS no_bids,
           0::bigint AS timeouts, 0::bigint AS errors, 0::bigint AS wins, 0::bigint AS waited_ms,
           0::bigint AS posts, 0::bigint AS accepted, 0::bigint AS rejected, 0::bigint AS not_sent,
           0::bigint AS doubted, 0::bigint AS written_off, 0::bigint AS price_micros,
           0::bigint AS payout_micros, 0::bigint AS fee_micros, 0::bigint AS asked,
           0::bigint AS granted, 0::bigint AS refused, 0::bigint AS waiting,
           0::bigint AS credit_micros, 0::bigint AS clawback_micros
    FROM ping_daily
    UNION ALL
    SELECT day, seller_id, source_id, vertical_id, buyer_id, contract_id, currency, NULL,
           0, 0, 0, 0, 0, invited, bids, bid_micros, below_floor, no_bids, timeouts, errors, wins,
           waited_ms, posts, accepted, rejected, not_sent, doubted, written_off, price_micros,
           payout_micros, fee_micros, 0, 0, 0, 0, 0, 0
    FROM trade_daily
    UNION ALL
    SELECT day, seller_id, source_id, vertical_id, buyer_id, contract_id, currency, reason,
           0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
           asked, granted, refused, waiting, credit_micros, clawback_micros
    FROM return_daily
)
SELECT p.day, s.key AS seller, o.key AS source, v.key AS vertical, b.key AS buyer,
       c.key AS contract, p.currency, p.reason, p.seller_id, p.source_id, p.vertical_id, p.buyer_id,
       p.contract_id, p.pings, p.offers, p.offered_micros, p.late, p.leads, p.invited, p.bids,
       p.bid_micros, p.below_floor, p.no_bids, p.timeouts, p.errors, p.wins, p.waited_ms, p.posts,
       p.accepted, p.rejected, p.not_sent, p.doubted, p.written_off, p.price_micros,
       p.payout_micros, p.fee_micros, p.asked, p.granted, p.refused, p.waiting, p.credit_micros,
       p.clawback_micros
FROM part p
LEFT JOIN seller s ON s.id = p.seller_id
LEFT JOIN source o ON o.id = p.source_id
LEFT JOIN vertical v ON v.id = p.vertical_id
LEFT JOIN buyer b ON b.id = p.buyer_id
LEFT JOIN contract c ON c.id = p.contract_id;

CREATE VIEW report_pnl WITH (security_invoker = true) AS
SELECT m.day, s.key AS seller, o.key AS source, v.key AS vertical, b.key AS buyer,
       c.key AS contract, m.currency, m.kind,
       CASE kind WHEN 'sale' THEN cases ELSE 0 END AS sales,
       CASE kind WHEN 'sale' THEN buyer_micros ELSE 0 END AS revenue_micros,
       CASE kind WHEN 'sale' THEN seller_micros ELSE 0 END AS payout_micros,
       CASE kind WHEN 'sale' THEN house_micros ELSE 0 END AS fee_micros,
       CASE kind WHEN 'return' THEN cases ELSE 0 END AS credits,
       CASE kind WHEN 'return' THEN -buyer_micros ELSE 0 END AS credit_micros,
       CASE kind WHEN 'return' THEN -seller_micros ELSE 0 END AS clawback_micros,
       CASE kind WHEN 'bad_debt' THEN -house_micros ELSE 0 END AS bad_debt_micros,
       CASE kind WHEN 'reserve' THEN -house_micros ELSE 0 END AS reserved_micros,
       CASE WHEN kind NOT IN ('sale', 'return', 'bad_debt', 'reserve') THEN house_micros
            ELSE 0 END AS other_micros,
       house_micros AS net_micros
FROM money_daily m
LEFT JOIN seller s ON s.id = m.seller_id
LEFT JOIN source o ON o.id = m.source_id
LEFT JOIN vertical v ON v.id = m.vertical_id
LEFT JOIN buyer b ON b.id = m.buyer_id
LEFT JOIN contract c ON c.id = m.contract_id;

-- What a party may see of trade with others: its own side of it, and no more. These are the owner's
-- views, which look at whole tables, so each says itself whose rows it shows; a reader that has named
-- no party sees nothing.
CREATE VIEW report_my_sources WITH (security_barrier = true) AS
WITH part AS (
    SELECT day, source_id, vertical_id, currency, NULL::text AS reason, pings, offers,
           offered_micros, late, leads, 0::bigint AS sales, 0::bigint AS payout_micros,
           0::bigint AS returned, 0::bigint AS clawback_micros
    FROM ping_daily WHERE seller_id = reading_party()
    UNION ALL
    SELECT day, source_id, vertical_id, currency, NULL, 0, 0, 0, 0, 0, accepted, payout_micros, 0, 0
    FROM trade_daily WHERE seller_id = reading_party()
    UNION ALL
    SELECT day, source_id, vertical_id, currency, reason, 0, 0, 0, 0, 0, 0, 0, granted,
           clawback_micros
    FROM return_daily WHERE seller_id = reading_party()
)
SELECT p.day, o.key AS source, v.key AS vertical, p.currency, p.reason,
       sum(pings)::bigint AS pings, sum(offers)::bigint AS offers,
       sum(offered_micros)::bigint AS offered_micros, sum(late)::bigint AS late,
       sum(leads)::bigint AS leads, sum(sales)::bigint AS sales,
       sum(payout_micros)::bigint AS payout_micros, sum(returned)::bigint AS returned,
       sum(clawback_micros)::bigint AS clawback_micros
FROM part p JOIN source o ON o.id = p.source_id JOIN vertical v ON v.id = p.vertical_id
GROUP BY p.day, o.key, v.key, p.currency, p.reason;

CREATE VIEW report_my_contracts WITH (security_barrier = true) AS
WITH part AS (
    SELECT day, contract_id, vertical_id, currency, NULL::text AS reason, invited, bids, bid_micros,
           timeouts, errors, wins, waited_ms, posts, accepted AS sales, rejected, doubted,
           price_micros, 0::bigint AS asked, 0::bigint AS granted, 0::bigint AS refused,
           0::bigint AS waiting, 0::bigint AS credit_micros
    FROM trade_daily WHERE buyer_id = reading_party()
    UNION ALL
    SELECT day, contract_id, vertical_id, currency, reason, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
           asked, granted, refused, waiting, credit_micros
    FROM return_daily WHERE buyer_id = reading_party()
)
SELECT p.day, c.key AS contract, v.key AS vertical, p.currency, p.reason,
       sum(invited)::bigint AS invited, sum(bids)::bigint AS bids,
       sum(bid_micros)::bigint AS bid_micros, sum(timeouts)::bigint AS timeouts,
       sum(errors)::bigint AS errors, sum(wins)::bigint AS wins,
       sum(waited_ms)::bigint AS waited_ms, sum(posts)::bigint AS posts,
       sum(sales)::bigint AS sales, sum(rejected)::bigint AS rejected,
       sum(doubted)::bigint AS doubted, sum(price_micros)::bigint AS price_micros,
       sum(asked)::bigint AS asked, sum(granted)::bigint AS granted,
       sum(refused)::bigint AS refused, sum(waiting)::bigint AS waiting,
       sum(credit_micros)::bigint AS credit_micros
FROM part p JOIN contract c ON c.id = p.contract_id JOIN vertical v ON v.id = p.vertical_id
GROUP BY p.day, c.key, v.key, p.currency, p.reason;

GRANT SELECT ON report_trade, report_pnl, report_my_sources, report_my_contracts TO exchange_reader;
GRANT SELECT ON report_trade, report_pnl TO exchange_app;

RESET ROLE;
