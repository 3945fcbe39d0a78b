-- Append to any number of streams in one call.
--
-- Streams are locked in the order of their ids, whatever order the session named them in, so that two
-- sessions with the same streams can't block each other for ever. The expected versions are checked
-- before a number is drawn: a loser leaves no hole.
--
-- One entry a stream: p_streams, p_stream_types, p_added (how many events; 0 only checks the version),
-- p_expected (null: any), p_starts (the stream must not exist).
-- One entry an event, in the order of the session: p_ids, p_event_streams (index into p_streams),
-- p_places (1 for the stream's first event of this call), p_types, p_data. The rest may be null as a
-- whole, or hold null: then the call's own value stands.
--
-- SQLSTATE FS001: exists already, FS002: at another version, FS003: archived, FS004: does not exist.
-- DETAIL is a JSON object: stream (index into p_streams), expected, found.
create function {schema}.append(
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
begin
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
