-- Adds to each execution the time up to which its log was read. All views that measure silence or
-- waiting select from this view, so the rule for finding that time is written only once.
create or replace view projector.executions_with_as_of as
select facts.*,
       case
           when log.topic is null then (select max(as_of) from projector.freshness)
           else log.as_of
       end as as_of
from   projector.execution_facts as facts
left join projector.freshness as log
       on  log.topic = facts.last_event_ranked[4]
       and log.partition::text = facts.last_event_ranked[5];

comment on view projector.executions_with_as_of is
    'Private: up to what time has the log of each execution been read? as_of is that of the '
    'partition of its last event. If that has no position, for example because a backfill took the '
    'event from a file or a table, it is the newest as_of of the partitions of Kafka. This view is '
    'granted to nobody and may change.';
comment on column projector.executions_with_as_of.execution_id is 'id of the execution';
comment on column projector.executions_with_as_of.events is 'events';
comment on column projector.executions_with_as_of.first_at is 'time of its first event';
comment on column projector.executions_with_as_of.last_at is 'time of its last event';
comment on column projector.executions_with_as_of.highest_attempts is
    'highest attempts of its events';
comment on column projector.executions_with_as_of.catalog_id is 'id of the playbook in the catalog';
comment on column projector.executions_with_as_of.parent_execution_id is
    'the execution that started it';
comment on column projector.executions_with_as_of.completed is
    'number of events that end it as COMPLETED';
comment on column projector.executions_with_as_of.completed_at is
    'the first event that ends it as COMPLETED';
comment on column projector.executions_with_as_of.failed is
    'attempts that ended FAILED, ERROR or CANCELLED';
comment on column projector.executions_with_as_of.failed_at is
    'the first event that ends it as FAILED';
comment on column projector.executions_with_as_of.cancelled is
    'number of events that end it as CANCELLED';
comment on column projector.executions_with_as_of.cancelled_at is
    'the first event that ends it as CANCELLED';
comment on column projector.executions_with_as_of.as_of is
    'every record that the log held at this time is in every view';
