-- Keep everybody else from appending to a stream until the transaction ends.
--
-- The row keeps out whoever appends. A stream that doesn't exist has no row: the advisory lock keeps
-- out at least those who ask for this one too. It has two keys, another space than the bounds that
-- appenders publish.
--
-- p_timeout: milliseconds to wait; null waits for as long as the connection's lock_timeout says.
-- Gives version 0 for a stream that doesn't exist. SQLSTATE 55P03: somebody else has it.
create function {schema}.lock_stream(
    p_tenant text,
    p_stream {stream_arg},
    p_timeout integer,
    out version bigint,
    out archived boolean
) language plpgsql volatile as {body}
declare
    v_timeout text := current_setting('lock_timeout');
begin
    if p_timeout is not null then
        perform set_config('lock_timeout', p_timeout || 'ms', true);
    end if;
    perform pg_advisory_xact_lock(
        hashtext({events_name}::regclass::oid::text), hashtext(p_tenant || ' ' || p_stream)
    );
    select s.version, s.archived into version, archived
    from {schema}.streams s where s.tenant_id = p_tenant and s.id = p_stream for update;
    version := coalesce(version, 0);
    archived := coalesce(archived, false);
    -- A setting that is local to a savepoint would outlast it.
    perform set_config('lock_timeout', v_timeout, true);
end
{body};
