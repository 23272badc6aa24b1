create or replace view projector.executions as
select execution_id, hour, playbook, version, status, catalog_id, parent_execution_id, first_at,
       begun_at, last_at, ended_at,
       extract(epoch from ended_at - first_at)::double precision as duration_s,
       events, highest_attempts,
       (
           select count(*)
           from   projector.call_facts as failure
           where  failure.execution_id = facts.execution_id
           and    projector.call_failed(failure.outcome_ranked)
           and    coalesce(projector.ranked_value(failure.step_ranked), '') <> '__orchestrate__'
       ) as failed_calls,
       completed, failed, cancelled,
       (completed > 0)::integer + (failed > 0)::integer + (cancelled > 0)::integer > 1
           as contradicting,
       coalesce(active_at > ended_at, false) as active_after_end,
       last_event_ranked[2] as last_event_type, last_event_ranked[3] as last_step
from   (
           select execution_id, events, first_at, begin_at as begun_at, last_at, active_at,
                  highest_attempts, catalog_id, parent_execution_id, completed, failed, cancelled,
                  projector.to_hour(first_at) as hour,
                  projector.playbook_path(playbook_ranked) as playbook,
                  nullif(playbook_ranked[4], '') as version,
                  last_event_ranked,
                  least(completed_at, failed_at, cancelled_at) as ended_at,
                  coalesce(
                      nullif(projector.first_outcome(completed_at, failed_at, cancelled_at), ''),
                      'RUNNING'
                  ) as status
           from   projector.execution_facts
       ) as facts;

comment on view projector.executions is
    'What is the state of each execution? status is RUNNING, or the outcome of its earliest end '
    'event. contradicting is true if its end events disagree, and active_after_end if something '
    'else happened after the end. hour is the hour of its first event. failed_calls leaves out '
    'calls of the step __orchestrate__.';
comment on column projector.executions.execution_id is 'id of the execution';
comment on column projector.executions.hour is 'the hour, UTC';
comment on column projector.executions.playbook is
    'path of the playbook, or empty while it is not known';
comment on column projector.executions.version is
    'version of the playbook, if the event that begins it names it with the path';
comment on column projector.executions.status is 'RUNNING, COMPLETED, FAILED or CANCELLED';
comment on column projector.executions.catalog_id is 'id of the playbook in the catalog';
comment on column projector.executions.parent_execution_id is 'the execution that started it';
comment on column projector.executions.first_at is 'time of its first event';
comment on column projector.executions.begun_at is
    'when the event that begins it happened, or null without one';
comment on column projector.executions.last_at is 'time of its last event';
comment on column projector.executions.ended_at is
    'the earliest lifecycle end, or null while it runs';
comment on column projector.executions.duration_s is 'seconds from its first event to its end';
comment on column projector.executions.events is 'events';
comment on column projector.executions.highest_attempts is 'highest attempts of its events';
comment on column projector.executions.failed_calls is
    'its attempts that ended FAILED, ERROR or CANCELLED';
comment on column projector.executions.completed is 'number of events that end it as COMPLETED';
comment on column projector.executions.failed is 'number of events that end it as FAILED';
comment on column projector.executions.cancelled is 'number of events that end it as CANCELLED';
comment on column projector.executions.contradicting is 'whether its ends disagree';
comment on column projector.executions.active_after_end is
    'whether anything but a report of the end is later than ended_at';
comment on column projector.executions.last_event_type is 'type of its last event';
comment on column projector.executions.last_step is 'step of its last event';

grant select on projector.executions to normalizer_writer, projector_reader;
