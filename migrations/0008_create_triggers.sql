-- The triggers that run when rows change.
--
-- Each projection has statement triggers on normalizer.events, which see the changed rows in the
-- transition tables `before` and `after`. The triggers run in the order of their names, which is
-- the same for every writer:
--     project_0_off          notes which projections differ from now on, if projector.off is on
--     project_1_executions   writes the executions in the order of their ids. Each row is the lock
--                            for everything that follows about its execution. Later statements read
--                            the execution, so they see what the previous writer has committed.
--     project_2_calls        writes the attempts of the commands, and their roll-ups
--     project_3_counters     updates the counters
-- Before them, note_changes_* notes for the relay which events changed.
-- The counters add the rows of `after` and subtract the rows of `before`. Values such as the first
-- time or the maximum are merged on insert. If a row that may have set such a value was changed or
-- deleted, the key is rebuilt from its own events.
--
-- If projector.off is on, a transaction stores events without updating any projection, and
-- projector repair corrects the projections later.

-- Creates placeholders for the trigger functions, because a trigger can only be created if its
-- function exists. `normalizer migrate` replaces them right afterwards with the files in
-- functions/. Until then, every write fails with an error that makes the service try again.
do $$
declare
    name text;
begin
    foreach name in array array[
        'normalizer.handle_deleted_positions', 'normalizer.note_event_changes',
        'projector.project_counters', 'projector.project_executions',
        'projector.project_calls', 'projector.project_truncate', 'projector.project_divergences'
    ] loop
        execute format(
            'create function %s() returns trigger language plpgsql as $body$ begin '
            'raise cannot_connect_now using message = ''`normalizer migrate` has not finished''; '
            'end $body$',
            name
        );
    end loop;
end
$$;

-- People delete a position to read a topic again.
create trigger keep_dedup_horizon
    before delete or truncate on normalizer.source_positions
    for each statement execute function normalizer.handle_deleted_positions();

create trigger drop_source_heartbeats
    after delete or truncate on normalizer.source_positions
    for each statement execute function normalizer.handle_deleted_positions();

create trigger project_3_counters_inserted
    after insert on normalizer.events
    referencing new table as after
    for each statement execute function projector.project_counters();

create trigger project_3_counters_updated
    after update on normalizer.events
    referencing old table as before new table as after
    for each statement execute function projector.project_counters();

create trigger project_3_counters_deleted
    after delete on normalizer.events
    referencing old table as before
    for each statement execute function projector.project_counters();

create trigger project_3_counters_archived
    after delete on normalizer.events
    referencing old table as before
    for each statement when (current_setting('projector.archiving', true) = 'on')
    execute function projector.project_counters('archived');

create trigger project_1_executions_inserted
    after insert on normalizer.events
    referencing new table as after
    for each statement execute function projector.project_executions();

create trigger project_1_executions_updated
    after update on normalizer.events
    referencing old table as before new table as after
    for each statement execute function projector.project_executions();

create trigger project_1_executions_deleted
    after delete on normalizer.events
    referencing old table as before
    for each statement execute function projector.project_executions();

create trigger project_2_calls_inserted
    after insert on normalizer.events
    referencing new table as after
    for each statement execute function projector.project_calls();

create trigger project_2_calls_updated
    after update on normalizer.events
    referencing old table as before new table as after
    for each statement execute function projector.project_calls();

create trigger project_2_calls_deleted
    after delete on normalizer.events
    referencing old table as before
    for each statement execute function projector.project_calls();

create trigger project_truncated
    after truncate on normalizer.events
    for each statement execute function projector.project_truncate(
        'event_minutes', 'event_hours', 'arrival_hours', 'coercion_hours', 'execution_facts',
        'execution_hours', 'deployment_marks', 'call_facts', 'call_hours', 'call_times',
        'worker_hours', 'error_hours', 'retry_minutes'
    );

create trigger project_0_off_inserted
    after insert on normalizer.events
    referencing new table as after
    for each statement when (current_setting('projector.off', true) = 'on')
    execute function projector.project_divergences();

create trigger project_0_off_updated
    after update on normalizer.events
    referencing old table as before new table as after
    for each statement when (current_setting('projector.off', true) = 'on')
    execute function projector.project_divergences();

create trigger project_0_off_deleted
    after delete on normalizer.events
    referencing old table as before
    for each statement when (current_setting('projector.off', true) = 'on')
    execute function projector.project_divergences();

create trigger note_changes_inserted
    after insert on normalizer.events
    referencing new table as after
    for each statement execute function normalizer.note_event_changes();

create trigger note_changes_updated
    after update on normalizer.events
    referencing new table as after
    for each statement execute function normalizer.note_event_changes();

insert into migrations.applied (version) values ('0008') on conflict do nothing;
