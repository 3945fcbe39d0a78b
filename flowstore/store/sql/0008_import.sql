-- Lock the streams that an import is about to write to, beginning those that don't exist at version
-- 0, and tell how they stand. In the order of their ids, as an append does.
create function {schema}.open_streams(
    p_tenants text[],
    p_streams {stream_ids},
    p_types text[]
) returns table (tenant text, stream {stream_arg}, version bigint, archived boolean)
language plpgsql volatile as {body}
begin
    return query
    insert into {schema}.streams as s (tenant_id, id, type, version)
    select n.tenant, n.id, n.type, 0
    from unnest(p_tenants, p_streams, p_types) as n (tenant, id, type)
    order by n.tenant collate "C", n.id
    on conflict on constraint streams_pkey do update set updated = excluded.updated
    returning s.tenant_id::text, s.id, s.version, s.archived;
end
{body};

-- Puts streams at the versions that an import brought them to, and archives those that it says.
create function {schema}.settle_streams(
    p_tenants text[],
    p_streams {stream_ids},
    p_versions bigint[],
    p_archived boolean[]
) returns void
language plpgsql volatile as {body}
begin
    update {schema}.streams s set version = n.version
    from unnest(p_tenants, p_streams, p_versions) as n (tenant, id, version)
    where s.tenant_id = n.tenant and s.id = n.id;
    perform {schema}.archive_stream(n.tenant, n.id)
    from unnest(p_tenants, p_streams, p_archived) as n (tenant, id, archived)
    where n.archived;
end
{body};
