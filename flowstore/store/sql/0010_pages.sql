-- Where a page ends: the ceiling of the longest one after p_floor that has at most p_limit events and
-- at most p_bytes of JSON, or a single event; p_mark, if all up to it fits. No p_types: of every type;
-- no p_bytes: of any size.
--
-- Walks the events instead of summing up over a window: a window would write out every event of the
-- longest page before the first could be left out, five hundred large ones for a page of four.
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
