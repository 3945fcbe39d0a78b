-- Appending with less around it: a function of its own for a single event, as most commits have one,
-- and a bound that is published without a query. A commit of one event takes a quarter less of the
-- server's time, one of ten events of a stream a tenth less.

-- As in 0002. What is only computed and assigned runs without a query, which would take longer than
-- everything it does: hence the text made of the lock and the setting, read by nobody.
create or replace function {schema}.publish_bound() returns void
language plpgsql volatile as {body}
declare
    v_mark text := 'flowstore.published_' || {events_name}::regclass::oid;
    v_bound bigint;
    v_done text;
begin
    if coalesce(current_setting(v_mark, true), '') = '' then
        -- Null before the first number, and nowhere else is it asked what the sequence then says.
        v_bound := pg_sequence_last_value({sequence_name}::regclass);
        if v_bound is null then
            select s.last_value - (not s.is_called)::int into v_bound
            from {schema}.events_sequence s;
        end if;
        v_done := pg_advisory_xact_lock_shared(({schema}.high_water_tag() << 48) | v_bound)::text
            || set_config(v_mark, 'yes', true);
    end if;
end
{body};

-- Append one event, with what `append` checks, and refuses in the same words.
create function {schema}.append_event(
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
    out sequence bigint,
    out appended timestamptz
) language plpgsql volatile as {body}
declare
    v_archived boolean;
    v_state text;
    v_done text;
begin
    -- A stream that is there is only updated: an insert that finds a conflict takes longer.
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

    -- The time is taken under the stream's lock, so that a stream's times rise with its versions.
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
    returning w.sequence into append_event.sequence;
end
{body};

-- As in 0012, without the way for a single event.
create or replace function {schema}.append_stream(
    p_tenant text,
    p_stream {stream_arg},
    p_stream_type text,
    p_expected bigint,
    p_starts boolean,
    p_must_exist boolean,
    p_ids uuid[],
    p_types text[],
    p_data text[],
    p_headers text,
    p_correlation text,
    p_causation text,
    p_user text,
    out base bigint,
    out sequences bigint[],
    out appended timestamptz
) language plpgsql volatile as {body}
declare
    v_added bigint := cardinality(p_ids);
    v_archived boolean;
    v_state text;
    v_done text;
begin
    if not p_starts then
        update {schema}.streams s set version = s.version + v_added, updated = clock_timestamp()
        where s.tenant_id = p_tenant and s.id = p_stream
        returning s.version - v_added, s.archived into base, v_archived;
    end if;
    if base is null then
        insert into {schema}.streams as s (tenant_id, id, type, version)
        values (p_tenant, p_stream, p_stream_type, v_added)
        on conflict on constraint streams_pkey
        do update set version = s.version + excluded.version, updated = excluded.updated
        returning s.version - v_added, s.archived into base, v_archived;
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
    with written as (
        insert into {schema}.events as w (
            id, stream_id, version, type, data, timestamp,
            headers, correlation_id, causation_id, user_name, tenant_id
        )
        select
            n.id, p_stream, base + n.place, n.type, n.data::jsonb, appended,
            p_headers::jsonb, p_correlation, p_causation, p_user, p_tenant
        from unnest(p_ids, p_types, p_data) with ordinality as n (id, type, data, place)
        order by n.place
        returning w.sequence
    )
    select array_agg(w.sequence order by w.sequence) into sequences from written w;
end
{body};
