-- How far each shard has come, and what it set aside.

create table {schema}.progress (
    shard text not null,
    sequence bigint not null,
    epoch bigint not null default 0,
    updated timestamptz not null default clock_timestamp(),
    constraint progress_pkey primary key (shard)
) with (fillfactor = 50);

create table {schema}.dead_letters (
    shard text not null,
    sequence bigint not null,
    error_type text not null,
    message text not null,
    traceback text not null,
    recorded timestamptz not null default clock_timestamp(),
    constraint dead_letters_pkey primary key (shard, sequence)
);

-- Moves a shard from p_floor to p_ceiling; a missing row stands at 0.
-- SQLSTATE FS006: it stands elsewhere. DETAIL is a JSON object: found.
create function {schema}.advance(p_shard text, p_floor bigint, p_ceiling bigint) returns void
language plpgsql volatile as {body}
begin
    if p_floor = 0 then
        insert into {schema}.progress as p (shard, sequence) values (p_shard, p_ceiling)
        on conflict on constraint progress_pkey do update
        set sequence = excluded.sequence, updated = excluded.updated
        where p.sequence = 0;
    else
        update {schema}.progress p set sequence = p_ceiling, updated = clock_timestamp()
        where p.shard = p_shard and p.sequence = p_floor;
    end if;
    if not found then
        raise exception 'progress has moved' using
            errcode = 'FS006',
            detail = jsonb_build_object(
                'found',
                coalesce((select p.sequence from {schema}.progress p where p.shard = p_shard), 0)
            )::text;
    end if;
end
{body};
