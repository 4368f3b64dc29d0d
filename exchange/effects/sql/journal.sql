-- name: save_masks
-- The masks that a batch's pings were filtered with, as the JSON (UTF-8) in $1.
INSERT INTO closed_mask (mask_id, vertical_id, book_version, gates, segments, sources)
SELECT mask_id, vertical_id, book_version, gates, segments, sources
FROM json_to_recordset(convert_from($1::bytea, 'UTF8')::json) AS m (
    mask_id bigint, vertical_id integer, book_version integer, gates jsonb, segments jsonb, sources jsonb
)
ON CONFLICT DO NOTHING

-- name: save
-- A batch of pings: $1 is the JSON (UTF-8) of their records as they stand. A batch whose answer was
-- lost is simply saved again. (COPY is refused on tables with row-level security, and taking the
-- records apart column by column costs the worker seven times as much.)
INSERT INTO ping (
    ping_id, day, seller_id, source_id, sub_id, vertical_id, external_id, test, direct, received_at,
    tmax_ms, fields, consent, gated, outcome, reason, payout_micros, floor_micros, expires_at,
    eligible, bids, reason_counts, book_version, mask_id, took_ms, waited_ms, added_ms, late_ms,
    worker
)
SELECT p.ping_id, lead_day(p.ping_id), p.seller_id, p.source_id, p.sub_id, p.vertical_id,
       p.external_id, p.test, p.direct, p.received_at, p.tmax_ms, p.fields, p.consent, p.gated,
       r.outcome, r.reason, r.payout_micros, p.floor_micros,
       to_timestamp(r.expires_at_ms / 1000.0), r.eligible,
       convert_to(format('{"answers":%s,"ranking":%s}', r.answers, r.ranking), 'UTF8'),
       r.reason_counts, r.book_version, r.mask_id, r.took_ms, r.waited_ms, r.added_ms, r.late_ms,
       r.worker
FROM json_to_recordset(convert_from($1::bytea, 'UTF8')::json) AS r (
    ping json, outcome text, reason integer, answers json, ranking json, payout_micros bigint,
    expires_at_ms bigint, eligible integer, reason_counts jsonb, book_version integer,
    mask_id bigint, took_ms double precision, waited_ms double precision,
    added_ms double precision, late_ms double precision, worker text
)
CROSS JOIN LATERAL json_to_record(r.ping) AS p (
    ping_id uuid, seller_id integer, source_id integer, vertical_id integer, fields jsonb,
    received_at timestamptz, tmax_ms integer, sub_id text, floor_micros bigint, consent jsonb,
    external_id text, test boolean, direct boolean, gated text[]
)
ON CONFLICT (ping_id, day) DO NOTHING
