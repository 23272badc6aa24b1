create or replace view projector.execution_timeline as
select facts.execution_id, event.created_at, event.event_id, event.event_type, event.step,
       event.status, event.attempts, event.command_id, event.iteration, event.worker_id,
       event.max_attempts, event.duration, event.error, event.node_type, event.catalog_id,
       event.parent_event_id, event.parent_execution_id, event.context, event.result, event.meta,
       event.extra, event.coercions, event.evidence, event.shape, event.normalizer_version,
       event.source_topic, event.source_incarnation, event.source_partition, event.source_offset,
       event.source_index, event.headers, event.trace_id, event.recorded_at, event.ingested_at
from   projector.execution_facts as facts
cross join lateral projector.execution_events(array[facts.execution_id]) as event;

comment on view projector.execution_timeline is
    'What happened in one execution, event by event? Always filter by execution_id: only this '
    'view reads the table of events.';
comment on column projector.execution_timeline.execution_id is 'id of the execution';
comment on column projector.execution_timeline.created_at is
    'when it happened, by the clock of its producer';
comment on column projector.execution_timeline.event_id is 'id of the event';
comment on column projector.execution_timeline.event_type is 'type in the producer''s spelling';
comment on column projector.execution_timeline.step is
    'name of the step, or empty if no event names one';
comment on column projector.execution_timeline.status is 'canonical status';
comment on column projector.execution_timeline.attempts is
    'number of attempts before this one: 0 is the first';
comment on column projector.execution_timeline.command_id is
    'id of the command, or null if the producer gave none';
comment on column projector.execution_timeline.iteration is
    'index in a loop, or null outside of loops';
comment on column projector.execution_timeline.worker_id is 'the worker';
comment on column projector.execution_timeline.max_attempts is
    'number of attempts that are allowed in all';
comment on column projector.execution_timeline.duration is 'seconds, if the producer measured them';
comment on column projector.execution_timeline.error is 'error text';
comment on column projector.execution_timeline.node_type is 'kind of step';
comment on column projector.execution_timeline.catalog_id is 'id of the playbook in the catalog';
comment on column projector.execution_timeline.parent_event_id is 'the event that caused it';
comment on column projector.execution_timeline.parent_execution_id is
    'the execution that started it';
comment on column projector.execution_timeline.context is 'the producer''s JSON';
comment on column projector.execution_timeline.result is 'the producer''s JSON';
comment on column projector.execution_timeline.meta is 'the producer''s JSON, with attempts';
comment on column projector.execution_timeline.extra is
    'what the producer sent beyond the envelope';
comment on column projector.execution_timeline.coercions is
    'values whose meaning was changed or guessed, with the original';
comment on column projector.execution_timeline.evidence is
    'three digits: where attempts, status and created_at came from';
comment on column projector.execution_timeline.shape is 'wire shape of the record';
comment on column projector.execution_timeline.normalizer_version is
    'version of the rules that made the row';
comment on column projector.execution_timeline.source_topic is 'coordinates of the record';
comment on column projector.execution_timeline.source_incarnation is 'coordinates of the record';
comment on column projector.execution_timeline.source_partition is 'coordinates of the record';
comment on column projector.execution_timeline.source_offset is 'coordinates of the record';
comment on column projector.execution_timeline.source_index is 'coordinates of the record';
comment on column projector.execution_timeline.headers is 'the record''s headers, redacted';
comment on column projector.execution_timeline.trace_id is 'trace that the record belongs to';
comment on column projector.execution_timeline.recorded_at is 'time of the record in Kafka';
comment on column projector.execution_timeline.ingested_at is 'when it was stored';

grant select on projector.execution_timeline to normalizer_writer, projector_reader;
