create or replace view projector.loops as
select facts.execution_id, projector.to_hour(facts.first_at) as hour, looped.step,
       looped.issued, looped.done, looped.failed
from   projector.execution_facts as facts
cross join lateral (
    select   step, count(*) as issued, count(*) filter (where completed) as done,
             count(*) filter (where finished and not completed) as failed
    from     (
                 select   coalesce(projector.ranked_value(step_ranked), '') as step, iteration,
                          coalesce(
                              bool_or(not projector.call_failed(outcome_ranked)), false
                          ) as completed,
                          bool_and(finished_at is not null) as finished
                 from     projector.call_facts
                 where    call_facts.execution_id = facts.execution_id
                 and      iteration is not null
                 group by 1, 2
             ) as iterations
    where    step <> '__orchestrate__'
    group by step
) as looped;

comment on view projector.loops is
    'How far is each loop: how many of its issued iterations are done? failed counts iterations '
    'whose attempts have all ended without one that COMPLETED. hour is the hour of the '
    'execution''s first event. Calls of the step __orchestrate__ are left out.';
comment on column projector.loops.execution_id is 'id of the execution';
comment on column projector.loops.hour is 'the hour, UTC';
comment on column projector.loops.step is 'name of the step, or empty if no event names one';
comment on column projector.loops.issued is 'iterations that were issued';
comment on column projector.loops.done is 'iterations that completed';
comment on column projector.loops.failed is
    'iterations whose attempts have all ended, none of them COMPLETED';

grant select on projector.loops to normalizer_writer, projector_reader;
