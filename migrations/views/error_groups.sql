create or replace view projector.error_groups as
with recursive class as (
    -- Finds the error classes one after another. Each look-up in the index returns the class that
    -- follows the previous one, so the cost grows with the number of classes and not with the
    -- number of calls.
    (
        select   projector.classify_error(coalesce(projector.call_error(error_ranked), ''))
                     as error_class
        from     projector.call_facts
        where    finished_at is not null
        and      projector.call_failed(outcome_ranked)
        order by 1
        limit    1
    )
    union all
    select (
               select   projector.classify_error(coalesce(projector.call_error(error_ranked), ''))
               from     projector.call_facts
               where    finished_at is not null
               and      projector.call_failed(outcome_ranked)
               and      projector.classify_error(coalesce(projector.call_error(error_ranked), ''))
                        > class.error_class
               order by 1
               limit    1
           )
    from   class
    where  error_class is not null
)
select class.error_class, first.finished_at as first_seen_at, last.finished_at as last_seen_at,
       last.execution_id, last.step, last.attempts, last.error
from   class
cross join lateral (
    select   finished_at
    from     projector.call_facts
    where    finished_at is not null
    and      projector.call_failed(outcome_ranked)
    and      projector.classify_error(coalesce(projector.call_error(error_ranked), ''))
             = class.error_class
    and      coalesce(projector.ranked_value(step_ranked), '') <> '__orchestrate__'
    order by finished_at
    limit    1
) as first
cross join lateral (
    select   finished_at, execution_id, attempts, projector.call_error(error_ranked) as error,
             coalesce(projector.ranked_value(step_ranked), '') as step
    from     projector.call_facts
    where    finished_at is not null
    and      projector.call_failed(outcome_ranked)
    and      projector.classify_error(coalesce(projector.call_error(error_ranked), ''))
             = class.error_class
    and      coalesce(projector.ranked_value(step_ranked), '') <> '__orchestrate__'
    order by finished_at desc
    limit    1
) as last;

comment on view projector.error_groups is
    'Which error classes exist, when did each occur first and last, and where is a sample? It '
    'covers all stored calls, and the sample is the latest of them. failures_by_error has the '
    'counts. Calls of the step __orchestrate__ are left out.';
comment on column projector.error_groups.error_class is
    'error text without quoted parts, e-mail addresses and ids, which are words with a digit or of '
    'eight or more letters from a to f, with codes such as HTTP 404 kept, or null if it did not '
    'fail';
comment on column projector.error_groups.first_seen_at is 'when the first of them failed';
comment on column projector.error_groups.last_seen_at is 'when the last of them failed';
comment on column projector.error_groups.execution_id is 'id of the execution';
comment on column projector.error_groups.step is 'name of the step, or empty if no event names one';
comment on column projector.error_groups.attempts is
    'number of attempts before this one: 0 is the first';
comment on column projector.error_groups.error is
    'error text, at most 1,000 characters, or null if it completed';

grant select on projector.error_groups to normalizer_writer, projector_reader;
