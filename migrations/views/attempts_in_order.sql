create or replace view projector.attempts_in_order as
select facts.execution_id, projector.to_hour(facts.first_at) as hour, tries.step, tries.iteration,
       tries.ordinal, tries.attempts, tries.command_id, tries.begun_at, tries.status
from   projector.execution_facts as facts
cross join lateral (
    select step, iteration, attempts, command_id, begun_at, status,
           row_number() over (
               partition by step, iteration order by begun_at, attempts, command_id
           ) - 1 as ordinal
    from   projector.calls
    where  calls.execution_id = facts.execution_id
) as tries;

comment on view projector.attempts_in_order is
    'Which attempts were made of each step and iteration of an execution, in order? ordinal '
    'counts them from 0, attempts is what their events declare. If ordinal is greater, a command '
    'was issued again, or a loop does not number its iterations. hour is the hour of the first '
    'event. Calls of the step __orchestrate__ are left out.';
comment on column projector.attempts_in_order.execution_id is 'id of the execution';
comment on column projector.attempts_in_order.hour is 'the hour, UTC';
comment on column projector.attempts_in_order.step is
    'name of the step, or empty if no event names one';
comment on column projector.attempts_in_order.iteration is
    'index in a loop, or null outside of loops';
comment on column projector.attempts_in_order.ordinal is
    'number of the attempt of this step and iteration, by time, from 0';
comment on column projector.attempts_in_order.attempts is
    'number of attempts before this one: 0 is the first';
comment on column projector.attempts_in_order.command_id is
    'id of the command, never null: calls_without_command counts events without one';
comment on column projector.attempts_in_order.begun_at is
    'when the first event of the attempt happened';
comment on column projector.attempts_in_order.status is 'as in calls';

grant select on projector.attempts_in_order to normalizer_writer, projector_reader;
