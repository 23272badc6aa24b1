-- What the peer that reads finished rows fills: columns of normalizer.events.
create table events (
    event_id bigint primary key, execution_id bigint not null, event_type text not null, step text,
    status text not null, attempts integer, max_attempts integer, created_at timestamptz,
    worker_id text, command_id text, node_type text, catalog_id bigint, parent_event_id bigint,
    parent_execution_id bigint, duration double precision, error text, context jsonb,
    result jsonb, meta jsonb, extra jsonb, source_partition integer, source_offset bigint
);
create index events_by_execution on events (execution_id, event_id);
