-- The mark, and the page of (p_floor, mark], in one round trip: what follows an append at the tail.
--
-- Volatile, so that every statement in here has a snapshot of its own: the page's is taken after the
-- mark was told, and sees whatever that lets a reader see. In a function that isn't volatile all of them
-- would share the caller's, which is older than the look at the locks, and lose events.
--
-- As in high_water: p_known, p_buffer; as in page_end: p_types, p_archived, p_limit, p_bytes. At least
-- one row; sequence and all that follows are null where there is no event.
create function {schema}.look(
    p_known bigint,
    p_buffer double precision,
    p_floor bigint,
    p_types text[],
    p_archived boolean,
    p_limit bigint,
    p_bytes bigint
) returns table (
    safe bigint,
    ready bigint,
    ceiling bigint,
    sequence bigint,
    id uuid,
    stream_id {stream_arg},
    version bigint,
    type text,
    data text,
    "timestamp" timestamptz,
    headers text,
    correlation_id text,
    causation_id text,
    user_name text,
    tenant_id text
) language plpgsql volatile as {body}
begin
    select h.safe, h.ready into look.safe, look.ready
    from {schema}.high_water(p_known, p_buffer) h;
    if look.ready > p_floor then
        return query
        with page as materialized (
            select {schema}.page_end(
                p_floor, look.ready, p_types, p_archived, p_limit, p_bytes
            ) as ceiling
        )
        select
            look.safe, look.ready, (select p.ceiling from page p),
            e.sequence, e.id, e.stream_id, e.version, e.type, e.data::text, e.timestamp,
            e.headers::text, e.correlation_id, e.causation_id, e.user_name, e.tenant_id::text
        from {schema}.events e
        where
            e.sequence > p_floor and e.sequence <= (select p.ceiling from page p)
            and (p_types is null or e.type = any (p_types))
            and (p_archived or not e.archived) and not e.skipped
        order by e.sequence;
        if found then
            return;
        end if;
    end if;
    return query select
        look.safe, look.ready, greatest(p_floor, look.ready),
        null::bigint, null::uuid, null::{stream_arg}, null::bigint, null::text, null::text,
        null::timestamptz, null::text, null::text, null::text, null::text, null::text;
end
{body};
