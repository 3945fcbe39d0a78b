-- Appending as in 0003, by shorter ways for one stream and for one event: a third less of the server's
-- time for a commit of one event, a tenth less for ten events of one stream.

create or replace function {schema}.publish_bound_before_insert() returns trigger
language plpgsql volatile as {body}
begin
    -- Asked here as well: an append has published already, and calls cost more than the question.
    if coalesce(
        current_setting('flowstore.published_' || {events_name}::regclass::oid, true), ''
    ) = '' then
        perform {schema}.publish_bound();
    end if;
    return null;
end
{body};

create or replace function {schema}.append(
    p_tenant text,
    p_streams {stream_ids},
    p_stream_types text[],
    p_added bigint[],
    p_expected bigint[],
    p_starts boolean[],
    p_must_exist boolean,
    p_ids uuid[],
    p_event_streams integer[],
    p_places bigint[],
    p_types text[],
    p_data text[],
    p_timestamps timestamptz[],
    p_event_headers text[],
    p_event_correlations text[],
    p_event_causations text[],
    p_headers text,
    p_correlation text,
    p_causation text,
    p_user text,
    out bases bigint[],
    out sequences bigint[],
    out appended timestamptz
) language plpgsql volatile as {body}
declare
    v_wrong bigint;
    v_states text[];
    v_state text;
    v_base bigint;
    v_archived boolean;
begin
    -- Most commits have one stream: for it alone there is nothing to join, sort or gather.
    if cardinality(p_streams) = 1 then
        insert into {schema}.streams as s (tenant_id, id, type, version)
        values (p_tenant, p_streams[1], p_stream_types[1], p_added[1])
        on conflict on constraint streams_pkey
        do update set version = s.version + excluded.version, updated = excluded.updated
        returning s.version - p_added[1], s.archived into v_base, v_archived;
        bases := array[v_base];
        v_state := case
            when v_archived then 'FS003'
            when p_starts[1] and v_base > 0 then 'FS001'
            when p_expected[1] <> v_base then 'FS002'
            when p_must_exist and not p_starts[1] and v_base = 0 then 'FS004'
        end;
        if v_state is not null then
            v_wrong := 1;
            v_states := array[v_state];
        end if;
    else
        with moved as (
            insert into {schema}.streams as s (tenant_id, id, type, version)
            select p_tenant, n.id, n.type, n.added
            from unnest(p_streams, p_stream_types, p_added) as n (id, type, added)
            order by n.id
            on conflict on constraint streams_pkey
            do update set version = s.version + excluded.version, updated = excluded.updated
            returning s.id, s.version, s.archived
        ),
        judged as (
            select
                n.place,
                m.version - n.added as base,
                case
                    when m.archived then 'FS003'
                    when n.starts and m.version > n.added then 'FS001'
                    when n.expected <> m.version - n.added then 'FS002'
                    when p_must_exist and not n.starts and m.version = n.added then 'FS004'
                end as state
            from unnest(p_streams, p_added, p_expected, p_starts)
                with ordinality as n (id, added, expected, starts, place)
            join moved m on m.id = n.id
        )
        select
            array_agg(j.base order by j.place),
            array_agg(j.state order by j.place),
            min(j.place) filter (where j.state is not null)
        into bases, v_states, v_wrong
        from judged j;
    end if;

    if v_wrong is not null then
        raise exception 'append refused' using
            errcode = v_states[v_wrong],
            detail = jsonb_build_object(
                'stream', v_wrong - 1, 'expected', p_expected[v_wrong], 'found', bases[v_wrong]
            )::text;
    end if;

    appended := clock_timestamp();
    if cardinality(p_ids) < 1 or 0 = any (p_added) then
        delete from {schema}.streams s
        where s.tenant_id = p_tenant and s.id = any (p_streams) and s.version = 0;
    end if;
    if cardinality(p_ids) < 1 then
        return;
    end if;

    perform {schema}.publish_bound();
    if cardinality(p_ids) = 1 then
        insert into {schema}.events as w (
            id, stream_id, version, type, data, timestamp,
            headers, correlation_id, causation_id, user_name, tenant_id
        )
        values (
            p_ids[1],
            p_streams[p_event_streams[1]],
            bases[p_event_streams[1]] + p_places[1],
            p_types[1],
            p_data[1]::jsonb,
            coalesce(p_timestamps[1], appended),
            coalesce(p_event_headers[1], p_headers)::jsonb,
            coalesce(p_event_correlations[1], p_correlation),
            coalesce(p_event_causations[1], p_causation),
            p_user,
            p_tenant
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
            n.id,
            p_streams[n.stream],
            bases[n.stream] + n.place,
            n.type,
            n.data::jsonb,
            coalesce(n.timestamp, appended),
            coalesce(n.headers, p_headers)::jsonb,
            coalesce(n.correlation, p_correlation),
            coalesce(n.causation, p_causation),
            p_user,
            p_tenant
        from unnest(
            p_ids, p_event_streams, p_places, p_types, p_data,
            p_timestamps, p_event_headers, p_event_correlations, p_event_causations
        ) with ordinality as n (
            id, stream, place, type, data, timestamp, headers, correlation, causation, queued
        )
        order by n.queued
        returning w.sequence
    )
    select array_agg(w.sequence order by w.sequence) into sequences from written w;
end
{body};
