-- Parts of the streams are read in one pass now, by a statement that finds out itself where its page ends:
-- `page_end` as in 0010 again, and nobody asks a function which part a stream is in.

drop function {schema}.page_end(
    bigint, bigint, text[], boolean, bigint, bigint, bigint, bigint
);
drop function {schema}.stream_part({stream_arg}, bigint);
create function {schema}.page_end(
    p_floor bigint,
    p_mark bigint,
    p_types text[],
    p_archived boolean,
    p_limit bigint,
    p_bytes bigint
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
