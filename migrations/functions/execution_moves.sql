-- The executions that roll-ups do not count under what they are now. One without events is counted
-- under nothing: also one of which only an update is known, as its events were stored without
-- projections.
create or replace function projector.execution_moves(execution_ids bigint[])
    returns setof projector.execution_move
    language sql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
    select known.execution_id, known.counted_playbook_ranked, known.counted_begun,
           known.counted_outcome, known.counted_ended, known.playbook_ranked, today.begun,
           today.outcome, today.ended
    from   unnest(execution_moves.execution_ids) as wanted (execution_id)
    join   execution_facts as known using (execution_id)
    left join lateral (
        select hour_of(known.begin_at) as begun,
               outcome_of(known.completed_at, known.failed_at, known.cancelled_at) as outcome,
               hour_of(least(known.completed_at, known.failed_at, known.cancelled_at)) as ended
        where  known.events > 0
    ) as today on true
    where  known.events = 0
    or     (
               known.counted_playbook_ranked, known.counted_begun, known.counted_outcome,
               known.counted_ended
           ) is distinct from (
               known.playbook_ranked, today.begun, today.outcome, today.ended
           )
$$;
