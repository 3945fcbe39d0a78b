-- Events are append-only. What may be done to them all the same has a function each; the triggers
-- below let through what these change, and nothing else.
--
-- Each function says its verb in a setting that lasts as long as its call; when it fails, what it
-- was called in is rolled back, and the setting with it. A function's own SET clause would be
-- shorter, but only a superuser may create one with a setting that PostgreSQL doesn't know.
-- Whoever owns the table can get round this; it is against mistakes.

alter table {schema}.events add column skipped boolean not null default false;

-- How often events of the stream were changed: who has folded them can tell whether they still are
-- what was folded.
alter table {schema}.streams add column amended bigint not null default 0;

create function {schema}.archive_stream(p_tenant text, p_stream {stream_arg}) returns void
language plpgsql volatile as {body}
begin
    perform set_config('flowstore.verb', 'archive', true);
    update {schema}.streams s set archived = true where s.tenant_id = p_tenant and s.id = p_stream;
    update {schema}.events e set archived = true
    where e.tenant_id = p_tenant and e.stream_id = p_stream and not e.archived;
    perform set_config('flowstore.verb', '', true);
end
{body};

-- Puts one event in the place of all up to p_version, if they are still as p_amended says.
-- SQLSTATE FS008: they aren't. DETAIL is a JSON object: stream.
create function {schema}.compact_stream(
    p_tenant text,
    p_stream {stream_arg},
    p_version bigint,
    p_amended bigint,
    p_id uuid,
    p_type text,
    p_data text
) returns void
language plpgsql volatile as {body}
begin
    perform set_config('flowstore.verb', 'compact', true);
    update {schema}.streams s set amended = s.amended + 1
    where s.tenant_id = p_tenant and s.id = p_stream and s.amended = p_amended;
    if not found then
        raise exception 'the stream was amended meanwhile' using
            errcode = 'FS008', detail = jsonb_build_object('stream', p_stream)::text;
    end if;
    delete from {schema}.events e
    where e.tenant_id = p_tenant and e.stream_id = p_stream and e.version < p_version;
    update {schema}.events e
    set
        id = p_id, type = p_type, data = p_data::jsonb, headers = null, correlation_id = null,
        causation_id = null, user_name = null, skipped = false
    where e.tenant_id = p_tenant and e.stream_id = p_stream and e.version = p_version;
    perform set_config('flowstore.verb', '', true);
end
{body};

-- Call it under lock_stream, with data that was read under it.
create function {schema}.mask_events(
    p_tenant text,
    p_stream {stream_arg},
    p_sequences bigint[],
    p_types text[],
    p_data text[]
) returns void
language plpgsql volatile as {body}
begin
    perform set_config('flowstore.verb', 'mask', true);
    update {schema}.streams s set amended = s.amended + 1
    where s.tenant_id = p_tenant and s.id = p_stream;
    update {schema}.events e set type = n.type, data = n.data::jsonb
    from unnest(p_sequences, p_types, p_data) as n (sequence, type, data)
    where e.sequence = n.sequence and e.tenant_id = p_tenant and e.stream_id = p_stream;
    perform set_config('flowstore.verb', '', true);
end
{body};

-- Tells whether there is such an event.
create function {schema}.skip_event(p_id uuid) returns boolean
language plpgsql volatile as {body}
begin
    perform set_config('flowstore.verb', 'skip', true);
    update {schema}.streams s set amended = s.amended + 1
    from {schema}.events e
    where e.id = p_id and not e.skipped and s.tenant_id = e.tenant_id and s.id = e.stream_id;
    update {schema}.events e set skipped = true where e.id = p_id and not e.skipped;
    perform set_config('flowstore.verb', '', true);
    return exists (select from {schema}.events e where e.id = p_id);
end
{body};

-- SQLSTATE FS009: not by one of the functions above, or more than it may change.
create function {schema}.refuse_amendment() returns trigger
language plpgsql volatile as {body}
begin
    raise exception 'events are append-only: % is refused', tg_op using
        errcode = 'FS009',
        hint = 'archive, compact or mask their stream, or skip the event, through the store';
end
{body};

create function {schema}.check_amendment() returns trigger
language plpgsql volatile as {body}
declare
    v_rest {schema}.events := new;
begin
    case current_setting('flowstore.verb', true)
        when 'archive' then
            v_rest.archived := old.archived;
        when 'skip' then
            v_rest.skipped := old.skipped;
        when 'mask' then
            v_rest.type := old.type;
            v_rest.data := old.data;
        when 'compact' then
            v_rest.id := old.id;
            v_rest.type := old.type;
            v_rest.data := old.data;
            v_rest.headers := old.headers;
            v_rest.correlation_id := old.correlation_id;
            v_rest.causation_id := old.causation_id;
            v_rest.user_name := old.user_name;
            v_rest.skipped := old.skipped;
        else
            v_rest := null;
    end case;
    if v_rest is distinct from old then
        raise exception 'events are append-only: % is refused', tg_op using
            errcode = 'FS009',
            hint = 'archive, compact or mask their stream, or skip the event, through the store';
    end if;
    return new;
end
{body};

create trigger append_only_update before update on {schema}.events
for each row execute function {schema}.check_amendment();

create trigger append_only_delete before delete on {schema}.events
for each statement when (coalesce(current_setting('flowstore.verb', true), '') <> 'compact')
execute function {schema}.refuse_amendment();

create trigger append_only_truncate before truncate on {schema}.events
for each statement execute function {schema}.refuse_amendment();
