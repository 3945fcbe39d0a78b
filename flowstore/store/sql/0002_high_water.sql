-- How far it is safe to read.
--
-- Whoever is about to draw sequence numbers first publishes a lower bound L, "every number I take is
-- above L", in the key of a shared advisory lock that lasts as long as the transaction. The key is 16
-- bits of tag, from the events table's oid, and 48 bits of L. The tag is never 0 or 0xFFFF; two stores
-- with one tag in one database can only delay each other.

create function {schema}.high_water_tag() returns bigint
language sql stable parallel safe as {body}
    select {events_name}::regclass::oid::bigint % 65534 + 1
{body};

-- Once a transaction: the transaction-local setting and the lock come and go together, also when a
-- savepoint is rolled back. Before its first number a sequence reads last_value 1 with is_called
-- false; a bound of 1 would let a reader pass number 1.
create function {schema}.publish_bound() returns void
language plpgsql volatile as {body}
declare
    v_mark text := 'flowstore.published_' || {events_name}::regclass::oid;
begin
    if coalesce(current_setting(v_mark, true), '') = '' then
        perform
            pg_advisory_xact_lock_shared(
                ({schema}.high_water_tag() << 48) | (s.last_value - (not s.is_called)::int)
            ),
            set_config(v_mark, 'yes', true)
        from {schema}.events_sequence s;
    end if;
end
{body};

create function {schema}.publish_bound_before_insert() returns trigger
language plpgsql volatile as {body}
begin
    perform {schema}.publish_bound();
    return null;
end
{body};

-- A statement's BEFORE trigger runs before any nextval of that statement, so that COPY and foreign
-- writers are covered too.
create trigger publish_bound before insert on {schema}.events
for each statement execute function {schema}.publish_bound_before_insert();

create view {schema}.open_appends as
select
    ((l.classid::bigint << 32) | l.objid::bigint) & ((1::bigint << 48) - 1) as bound,
    l.pid
from pg_catalog.pg_locks l
where
    l.locktype = 'advisory'
    and l.objsubid = 1
    and l.granted
    and (l.classid::bigint >> 16) = {schema}.high_water_tag()
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database());

-- safe: nothing unseen can still appear at or below it.
-- ready: the same, but events younger than p_buffer seconds by this server's clock are left out.
--
-- First the position, then the locks, each in a statement of its own: whoever took a number up to the
-- position had locked before. Either the lock is still held, and the mark stays below, or the
-- transaction is over, and a snapshot taken from now on sees it. Read the page in a later statement.
create function {schema}.high_water(
    p_known bigint default 0,
    p_buffer double precision default 0,
    out safe bigint,
    out ready bigint
) language plpgsql volatile as {body}
declare
    v_position bigint;
    v_bound bigint;
    v_cutoff timestamptz;
begin
    if pg_is_in_recovery() then
        raise exception 'the high-water mark can''t be told on a replica: connect to the primary'
            using errcode = 'FS005';
    end if;
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception
            'the high-water mark can''t be told in a % transaction: use read committed',
            current_setting('transaction_isolation') using errcode = 'FS005';
    end if;

    select s.last_value - (not s.is_called)::int into v_position from {schema}.events_sequence s;
    select min(o.bound) into v_bound from {schema}.open_appends o;

    -- The mark never goes back, unless the sequence itself was set back.
    safe := greatest(least(v_position, v_bound), least(p_known, v_position));
    ready := safe;
    if p_buffer > 0 then
        v_cutoff := clock_timestamp() - make_interval(secs => p_buffer);
        select coalesce(min(young.sequence) - 1, safe) into ready
        from {schema}.events young
        where
            young.sequence <= safe
            and young.sequence > coalesce(
                (
                    select old.sequence from {schema}.events old
                    where old.sequence <= safe and old.recorded <= v_cutoff
                    order by old.sequence desc limit 1
                ),
                0
            );
    end if;
end
{body};
