-- One owner a shard: whoever begins to run it claims it, and whoever claimed it before commits no more.
--
-- epoch: counts claims, rewinds and teardowns; a row is never deleted, so that an owner that was frozen
-- for long can't meet its own number again.
-- started: tells a shard that stands at 0 from one that has no place yet.
-- edits: counts what was written to its documents beside its pages.
alter table {schema}.progress
    add column started boolean not null default true,
    add column edits bigint not null default 0;
alter table {schema}.progress alter column started set default false;

-- Begins to own a shard.
create function {schema}.claim_shard(
    p_shard text, out sequence bigint, out started boolean, out epoch bigint, out edits bigint
) language plpgsql volatile as {body}
begin
    insert into {schema}.progress as p (shard, sequence, epoch) values (p_shard, 0, 1)
    on conflict on constraint progress_pkey do update set epoch = p.epoch + 1
    returning p.sequence, p.started, p.epoch, p.edits into sequence, started, epoch, edits;
end
{body};

-- Puts a shard at a place, whoever owns it: not any more. p_started false: it has no place.
create function {schema}.move_shard(p_shard text, p_sequence bigint, p_started boolean) returns void
language sql volatile as {body}
    insert into {schema}.progress as p (shard, sequence, started, epoch)
    values (p_shard, p_sequence, p_started, 1)
    on conflict on constraint progress_pkey do update set
        sequence = excluded.sequence, started = excluded.started, epoch = p.epoch + 1,
        updated = excluded.updated;
{body};

-- Advisory locks are per database, and two keys are another space than the bounds of appenders. The
-- first key tells schemas, and kinds of locks, apart: "shard" is held by whoever runs one, for as long
-- as its session lasts; "commit" by whoever is in the middle of committing a page, until it ends.
create function {schema}.lock_space(p_kind text) returns integer
language sql stable parallel safe as {body}
    select hashtext(p_kind || ' ' || {events_name}::regclass::oid)
{body};

-- Moves a shard from p_floor to p_ceiling; a missing row stands at 0. Null for p_epoch, p_edits: whoever
-- owns it, whatever was written beside it.
-- SQLSTATE FS006: it stands elsewhere, or has another owner. FS010: its documents were written to beside
-- its pages, and nothing else is wrong. DETAIL is a JSON object: found, epoch, edits.
drop function {schema}.advance(text, bigint, bigint);
create function {schema}.advance(
    p_shard text, p_floor bigint, p_ceiling bigint, p_epoch bigint default null, p_edits bigint default null
) returns void
language plpgsql volatile as {body}
declare
    v_found {schema}.progress;
begin
    if p_epoch is not null then
        -- Shows who is in the middle of a commit: what this transaction writes nobody else can see.
        perform pg_advisory_xact_lock_shared({schema}.lock_space('commit'), hashtext(p_shard));
    end if;
    update {schema}.progress p
    set sequence = p_ceiling, started = true, updated = clock_timestamp()
    where
        p.shard = p_shard
        and p.sequence = p_floor
        and p.epoch = coalesce(p_epoch, p.epoch)
        and p.edits = coalesce(p_edits, p.edits);
    if found then
        return;
    end if;
    if p_floor = 0 and p_epoch is null then
        insert into {schema}.progress as p (shard, sequence, started) values (p_shard, p_ceiling, true)
        on conflict on constraint progress_pkey do update
        set sequence = excluded.sequence, started = true, updated = excluded.updated
        where p.sequence = 0 and p.edits = coalesce(p_edits, p.edits);
        if found then
            return;
        end if;
    end if;
    select * into v_found from {schema}.progress p where p.shard = p_shard;
    raise exception 'progress has moved' using
        errcode = case
            when v_found.sequence = p_floor and v_found.epoch = coalesce(p_epoch, v_found.epoch)
            then 'FS010'
            else 'FS006'
        end,
        detail = jsonb_build_object(
            'found', coalesce(v_found.sequence, 0),
            'epoch', coalesce(v_found.epoch, 0),
            'edits', coalesce(v_found.edits, 0)
        )::text;
end
{body};

-- Who runs which shard, for those who wait for it. The advisory lock decides; this only tells.
create table {schema}.shard_owners (
    shard text not null,
    epoch bigint not null default 0,
    pid integer not null,
    backend_start timestamptz not null,
    application_name text not null,
    renewed timestamptz not null default clock_timestamp(),
    constraint shard_owners_pkey primary key (shard)
) with (fillfactor = 50);

-- Takes a shard's lock for this session, or tells who has it. One that has not renewed for p_lease
-- seconds, by this server's clock, is stuck: its backend is ended, and the lock can be had soon.
create function {schema}.take_shard(
    p_shard text,
    p_lease double precision,
    out taken boolean,
    out pid integer,
    out application_name text,
    out ended boolean,
    out progress bigint
) language plpgsql volatile as {body}
declare
    v_space integer := {schema}.lock_space('shard');
    v_key integer := hashtext(p_shard);
    v_start timestamptz;
    v_silent boolean;
begin
    ended := false;
    progress := coalesce((select p.sequence from {schema}.progress p where p.shard = p_shard), 0);
    taken := pg_try_advisory_lock(v_space, v_key);
    if taken then
        insert into {schema}.shard_owners (shard, pid, backend_start, application_name)
        select p_shard, a.pid, a.backend_start, a.application_name
        from pg_catalog.pg_stat_activity a where a.pid = pg_backend_pid()
        on conflict on constraint shard_owners_pkey do update set
            epoch = excluded.epoch, pid = excluded.pid, backend_start = excluded.backend_start,
            application_name = excluded.application_name, renewed = excluded.renewed;
        return;
    end if;
    -- Only who has the lock: a row may be older than the lock's last change of hands.
    select o.pid, o.application_name, o.backend_start,
        o.renewed < clock_timestamp() - make_interval(secs => p_lease)
    into pid, application_name, v_start, v_silent
    from {schema}.shard_owners o
    join pg_catalog.pg_locks l
        on l.pid = o.pid and l.locktype = 'advisory' and l.objsubid = 2 and l.granted
        and l.classid = v_space::oid and l.objid = v_key::oid
        and l.database = (
            select d.oid from pg_catalog.pg_database d where d.datname = current_database()
        )
    where o.shard = p_shard;
    if v_silent then
        begin
            select pg_terminate_backend(a.pid) into ended from pg_catalog.pg_stat_activity a
            where a.pid = take_shard.pid and a.backend_start = v_start;
        exception when insufficient_privilege then
            ended := false;  -- another role's: its own server settings have to end it
        end;
        ended := coalesce(ended, false);
    end if;
end
{body};

-- Gives a shard's lock back.
create function {schema}.leave_shard(p_shard text) returns void
language plpgsql volatile as {body}
begin
    delete from {schema}.shard_owners o where o.shard = p_shard and o.pid = pg_backend_pid();
    perform pg_advisory_unlock({schema}.lock_space('shard'), hashtext(p_shard));
end
{body};

-- Says that this session still runs its shards. Gives those that were claimed, rewound or torn down
-- by somebody else since they were claimed at p_epochs; 0: not claimed yet.
create function {schema}.renew_shards(p_shards text[], p_epochs bigint[]) returns setof text
language plpgsql volatile as {body}
begin
    update {schema}.shard_owners o set renewed = clock_timestamp(), epoch = n.epoch
    from unnest(p_shards, p_epochs) as n (shard, epoch)
    where o.shard = n.shard and o.pid = pg_backend_pid();
    return query
    select n.shard from unnest(p_shards, p_epochs) as n (shard, epoch)
    join {schema}.progress p on p.shard = n.shard
    where n.epoch > 0 and p.epoch <> n.epoch;
end
{body};

-- Ends whoever is in the middle of committing a page of a shard; tells how many. For whoever has its
-- lock: a former owner that is stuck there would keep the shard's row for as long as it is stuck.
create function {schema}.end_commits(p_shard text) returns bigint
language sql volatile as {body}
    select count(pg_terminate_backend(l.pid)) from pg_catalog.pg_locks l
    where
        l.locktype = 'advisory' and l.objsubid = 2 and l.granted and l.pid <> pg_backend_pid()
        and l.classid = {schema}.lock_space('commit')::oid and l.objid = hashtext(p_shard)::oid
        and l.database = (
            select d.oid from pg_catalog.pg_database d where d.datname = current_database()
        );
{body};
