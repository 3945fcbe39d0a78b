-- The streams in parts, for processes that rebuild one projection together: each reads a part's events,
-- and all events of a stream are in the same part, so that each still meets them in their order.

-- Tells which of so many parts a stream is in, from 0. Agreed upon by those who ask the same server:
-- nothing of it is kept.
create function {schema}.stream_part(p_stream {stream_arg}, p_parts bigint) returns bigint
language sql immutable parallel safe as {body}
    select mod(hashtextextended(p_stream::text, 0) & 9223372036854775807, p_parts)
{body};

-- As in 0010, and of the events of one part of the streams only, if there are parts: p_part of p_parts.
drop function {schema}.page_end(bigint, bigint, text[], boolean, bigint, bigint);
create function {schema}.page_end(
    p_floor bigint,
    p_mark bigint,
    p_types text[],
    p_archived boolean,
    p_limit bigint,
    p_bytes bigint,
    p_part bigint default null,
    p_parts bigint default null
) returns bigint
language plpgsql stable as {body}
declare
    v_event record;
    v_last bigint;
    v_count bigint := 0;
    v_bytes bigint := 0;
begin
    for v_event in
        select e.sequence, e.data, e.headers from {schema}.events e
        where
            e.sequence > p_floor and e.sequence <= p_mark and (p_archived or not e.archived)
            and not e.skipped and (p_types is null or e.type = any (p_types))
            and (p_parts is null or {schema}.stream_part(e.stream_id, p_parts) = p_part)
        order by e.sequence limit p_limit
    loop
        v_bytes := v_bytes + octet_length(v_event.data::text)
            + coalesce(octet_length(v_event.headers::text), 0);
        if v_bytes > p_bytes and v_count > 0 then
            return v_last;
        end if;
        v_count := v_count + 1;
        v_last := v_event.sequence;
    end loop;
    return case when v_count = p_limit then v_last else greatest(p_floor, p_mark) end;
end
{body};
