-- Tables for the peers that read raw records, with ids as text, because they come as numbers and as
-- words.
create table events (
    event_id text primary key, execution_id text, event_type text, step text, status text,
    created_at timestamptz, worker_id text, error text, context jsonb, result jsonb, meta jsonb,
    kafka_partition integer, kafka_offset bigint
);
create index events_by_execution on events (execution_id, event_id);
