-- Finds executions that share an event_id with one of these executions, and returns them in pairs.
-- One execution of a pair has an event with that id. The other has a different event that was sent
-- with the same id, and was therefore stored under a hashed id. Retention deletes both executions
-- together. Otherwise, if the second event were reported again, its id would look free, and the
-- event would be stored once more under that id.
create or replace function projector.executions_sharing_event_ids(execution_ids bigint[])
    returns table (execution_id bigint, tied_to bigint)
    language sql stable
    set search_path = pg_catalog, normalizer, pg_temp
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
as $$
    with tied as materialized (
        select event_id, execution_id, sent_event_id(coercions) #>> '{}' as shared
        from   events
        where  execution_id = any((select executions_sharing_event_ids.execution_ids)::bigint[])
        and    merge_flags & 8 <> 0 -- SHARES_ID_FLAG of merge_flags.py
    )
    select distinct tied.execution_id, other.execution_id
    from   tied
    join   events as other on sent_event_id(other.coercions) = to_jsonb(tied.event_id)
                          and other.merge_flags & 8 <> 0 -- SHARES_ID_FLAG of merge_flags.py
    where  other.execution_id <> tied.execution_id
    union
    select distinct tied.execution_id, other.execution_id
    from   tied
    join   events as other on other.event_id = case
               when tied.shared ~ '^-?[0-9]{1,19}$'
                    and tied.shared::numeric between -9223372036854775808 and 9223372036854775807
               then tied.shared::bigint
           end
    where  other.execution_id <> tied.execution_id
$$;
