-- Streams, and the events in them.

create table {schema}.streams (
    tenant_id text collate "C" not null,
    id {stream_id} not null,
    type text,
    version bigint not null,
    created timestamptz not null default clock_timestamp(),
    updated timestamptz not null default clock_timestamp(),
    archived boolean not null default false,
    constraint streams_pkey primary key (tenant_id, id)
) with (fillfactor = 80);

-- CACHE 1: a session that kept numbers in hand would take some below the bound it has published.
create sequence {schema}.events_sequence as bigint cache 1;

create table {schema}.events (
    sequence bigint not null default nextval({sequence_name}),
    id uuid not null default gen_random_uuid(),
    stream_id {stream_id} not null,
    version bigint not null,
    type text not null,
    data jsonb not null,
    timestamp timestamptz not null default clock_timestamp(),
    -- When the row came to be, whatever the event says of itself: what a leading edge is measured by.
    recorded timestamptz not null default clock_timestamp(),
    headers jsonb,
    correlation_id text,
    causation_id text,
    user_name text,
    tenant_id text collate "C" not null default '*DEFAULT*',
    archived boolean not null default false,
    constraint events_pkey primary key (sequence),
    constraint events_id_key unique (id),
    constraint events_version_key unique (tenant_id, stream_id, version)
);

alter sequence {schema}.events_sequence owned by {schema}.events.sequence;
