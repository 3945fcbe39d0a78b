-- Appending by a shorter way: a commit of events of one stream, as most are, has nothing to join, sort
-- or gather, and takes a quarter less of the server's time.

-- Append events to one stream, with what `append` checks, and refuses in the same words.
--
-- One entry an event, at least one, in the order of the session: p_ids, p_types, p_data. All have the
-- database's time, and the same headers, correlation and causation.
create function {schema}.append_stream(
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
begin
    -- A stream that is there is only updated: an insert that finds a conflict takes longer.
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

    -- The time is taken under the stream's lock, so that a stream's times rise with its versions.
    appended := clock_timestamp();
    perform {schema}.publish_bound();
    if v_added = 1 then
        insert into {schema}.events as w (
            id, stream_id, version, type, data, timestamp,
            headers, correlation_id, causation_id, user_name, tenant_id
        )
        values (
            p_ids[1], p_stream, base + 1, p_types[1], p_data[1]::jsonb, appended,
            p_headers::jsonb, p_correlation, p_causation, p_user, p_tenant
        )
        returning array[w.sequence] into sequences;
        return;
    end if;

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
