-- What follows an append at the tail, with less of the server's time; and an append that gives its event
-- back as it is stored, for a daemon of the same process.

-- As in 0014, and two ways to know the mark without a look at the locks:
--
-- Where no number was drawn since p_known, nothing new can be there. Where a snapshot has an event for each
-- number from p_known to the last one that it has, each of them was committed, so that nothing is hidden
-- below the last; whoever is still open has drawn numbers above, or none. A number that is missing (open,
-- rolled back, or of an event that is gone) is for the ordinary way to judge, and so are more than a few.
create or replace function {schema}.look(
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
declare
    v_last bigint;
    v_seen bigint;
begin
    if
        p_buffer <= 0 and not pg_is_in_recovery()
        and current_setting('transaction_isolation') in ('read committed', 'read uncommitted')
    then
        if pg_sequence_last_value({sequence_name}::regclass) = p_known then
            look.safe := p_known;
        else
            select max(n.sequence), count(*) into v_last, v_seen from (
                select e.sequence from {schema}.events e
                where e.sequence > p_known order by e.sequence limit 21
            ) n;
            if v_seen between 1 and 20 and v_last = p_known + v_seen then
                look.safe := v_last;
            end if;
        end if;
        look.ready := look.safe;
    end if;
    if look.safe is null then
        select h.safe, h.ready into look.safe, look.ready
        from {schema}.high_water(p_known, p_buffer) h;
    end if;
    if look.ready > p_floor then
        return query
        with page as materialized (
            select case
                -- A single number is a page, whatever is at it.
                when look.ready = p_floor + 1 then look.ready
                else {schema}.page_end(
                    p_floor, look.ready, p_types, p_archived, p_limit, p_bytes
                )
            end as ceiling
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

-- As append_event in 0015, with the event as it is stored: of the row itself, so that it is what anybody
-- reads of it, whatever the server, or a trigger, has made of what it was given.
create function {schema}.append_event_told(
    p_tenant text,
    p_stream {stream_arg},
    p_stream_type text,
    p_expected bigint,
    p_starts boolean,
    p_must_exist boolean,
    p_id uuid,
    p_type text,
    p_data text,
    p_headers text,
    p_correlation text,
    p_causation text,
    p_user text,
    out base bigint,
    out appended timestamptz,
    out sequence bigint,
    out id uuid,
    out stream_id {stream_arg},
    out version bigint,
    out type text,
    out data text,
    out "timestamp" timestamptz,
    out headers text,
    out correlation_id text,
    out causation_id text,
    out user_name text,
    out tenant_id text
) language plpgsql volatile as {body}
declare
    v_archived boolean;
    v_state text;
    v_done text;
begin
    if not p_starts then
        update {schema}.streams s set version = s.version + 1, updated = clock_timestamp()
        where s.tenant_id = p_tenant and s.id = p_stream
        returning s.version - 1, s.archived into base, v_archived;
    end if;
    if base is null then
        insert into {schema}.streams as s (tenant_id, id, type, version)
        values (p_tenant, p_stream, p_stream_type, 1)
        on conflict on constraint streams_pkey
        do update set version = s.version + excluded.version, updated = excluded.updated
        returning s.version - 1, s.archived into base, v_archived;
    end if;
    if v_archived or p_expected <> base or p_starts or p_must_exist then
        v_state := case
            when v_archived then 'FS003'
            when p_starts and base > 0 then 'FS001'
            when p_expected <> base then 'FS002'
            when p_must_exist and not p_starts and base = 0 then 'FS004'
        end;
        if v_state is not null then
            raise exception 'append refused' using
                errcode = v_state,
                detail = jsonb_build_object(
                    'stream', 0, 'expected', p_expected, 'found', base
                )::text;
        end if;
    end if;

    appended := clock_timestamp();
    v_done := {schema}.publish_bound()::text;
    insert into {schema}.events as w (
        id, stream_id, version, type, data, timestamp,
        headers, correlation_id, causation_id, user_name, tenant_id
    )
    values (
        p_id, p_stream, base + 1, p_type, p_data::jsonb, appended,
        p_headers::jsonb, p_correlation, p_causation, p_user, p_tenant
    )
    returning
        w.sequence, w.id, w.stream_id, w.version, w.type, w.data::text, w.timestamp,
        w.headers::text, w.correlation_id, w.causation_id, w.user_name, w.tenant_id::text
    into
        append_event_told.sequence, append_event_told.id, append_event_told.stream_id,
        append_event_told.version, append_event_told.type, append_event_told.data,
        append_event_told.timestamp, append_event_told.headers, append_event_told.correlation_id,
        append_event_told.causation_id, append_event_told.user_name, append_event_told.tenant_id;
end
{body};
