-- Returns the events that a Kafka record reported, even if its topic was deleted and created again
-- since. It finds two kinds of rows:
--     1. rows that were stored from this record
--     2. rows that were stored from another record, but into which this record's report was merged.
--        The table merged_records leads to them, and has a row for each 4,096 offsets
-- The index of merged_records needs the incarnation of the topic, so all known ones are tried. Most
-- of them come from the positions. If a partition has no position, because only jobs have read it
-- or because the position was deleted, they come from dedup_horizon. The function runs with the
-- rights of its owner, because readers may not read the events themselves.
create or replace function projector.find_events_by_record(
    topic text, partition integer, source_offset bigint
)
    returns setof projector.located_event
    language sql stable security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
    --     1. Rows that were stored from this record. The index of the coordinates is a BRIN index,
    --        so PostgreSQL finds ranges of blocks with it, and then checks the rows in these
    --        blocks.
    select event_id, execution_id, event_type, step, status, created_at, source_index, false
    from   normalizer.events
    where  source_topic = find_events_by_record.topic
    and    source_partition = find_events_by_record.partition
    and    source_offset = find_events_by_record.source_offset
    union all
    -- 2. Merged reports.
    select found.event_id, found.execution_id, found.event_type, found.step, found.status,
           found.created_at, entry.source_index::integer, true
    from   normalizer.merged_records as merged
    cross join lateral unnest(
        merged.source_offsets, merged.source_indexes, merged.event_ids
    ) as entry (source_offset, source_index, event_id)
    cross join lateral events_by_id(array[entry.event_id]) as found
    where  merged.source_topic = find_events_by_record.topic
    and    merged.source_incarnation in (
               select position.incarnation
               from   normalizer.source_positions as position
               where  position.topic = find_events_by_record.topic
               and    position.partition = find_events_by_record.partition
               union
               select horizon.incarnation
               from   normalizer.dedup_horizon as horizon
               where  horizon.topic = find_events_by_record.topic
               and    horizon.partition = find_events_by_record.partition
           )
    and    merged.source_partition = find_events_by_record.partition
    and    merged.offset_block = find_events_by_record.source_offset >> 12
    and    entry.source_offset = find_events_by_record.source_offset
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.find_events_by_record(text, integer, bigint) from public;
grant execute on function projector.find_events_by_record(text, integer, bigint)
    to projector_reader;
