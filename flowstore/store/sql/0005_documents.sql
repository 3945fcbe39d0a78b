-- Refuses a statement that found documents at other versions than they were loaded at.
-- SQLSTATE FS007. DETAIL is a JSON object: table, id (as text).
create function {schema}.refuse_moved(p_table text, p_moved text[]) returns void
language plpgsql volatile as {body}
begin
    if cardinality(p_moved) > 0 then
        raise exception 'documents have moved' using
            errcode = 'FS007',
            detail = jsonb_build_object('table', p_table, 'id', p_moved[1])::text;
    end if;
end
{body};
