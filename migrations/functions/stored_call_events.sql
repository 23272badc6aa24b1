-- The stored events of these commands.
create or replace function projector.stored_call_events(commands projector.call_command[])
    returns setof projector.call_event
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    return query
        select event.event_id, event.execution_id, event.command_id, kind.event_class,
               kind.role, said.reporter, case when event.evidence >= 100 then event.attempts end,
               event.created_at, said.outcome_ranked, said.duration_ranked, said.error_ranked,
               said.step_ranked, said.worker_ranked, said.max_attempts_ranked, event.iteration,
               case
                   when kind.role = 'done' then call_index_of(event.context, event.result) else 0
               end,
               place.log, place.in_log
        from   unnest(stored_call_events.commands) as wanted
        cross join lateral (
            select *
            from   normalizer.events as stored
            where  stored.execution_id + 0 = wanted.execution_id
            and    hashtext(stored.command_id) = hashtext(wanted.command_id)
            and    stored.command_id = wanted.command_id
            offset 0
        ) as event
        join   event_kinds as kind on kind.event_type = event.event_type
        cross join lateral report_on_call(
            kind.role, kind.outcome, event.status, event.created_at, event.evidence, event.step,
            event.worker_id, event.max_attempts, event.duration, event.error, event.context,
            event.result
        ) as said
        left join lateral (
            select event.source_topic || ':' || event.source_incarnation || ':'
                   || event.source_partition as log,
                   array[event.source_offset, event.source_index] as in_log
        ) as place on knows_its_place(event.created_at, event.recorded_at, event.merge_flags)
        where  kind.subject = 'call';
end
$$;
