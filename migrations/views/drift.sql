create or replace view projector.drift as
select shape, field, type, kind, source_topic as topic, source_incarnation as incarnation,
       source_partition as partition, source_offset, example, found_at,
       projector.to_hour(found_at) as hour
from   normalizer.drift_findings;

comment on view projector.drift is
    'What do producers send that is not documented, or has another type than documented, since '
    'when, and where is an example? This is a sample, because only quiet traffic is examined '
    'completely.';
comment on column projector.drift.shape is 'wire shape of the record';
comment on column projector.drift.field is 'top-level key';
comment on column projector.drift.type is 'object, list, text, number or bool';
comment on column projector.drift.kind is 'unknown_key or changed_type';
comment on column projector.drift.topic is 'Kafka topic';
comment on column projector.drift.incarnation is
    'how often the topic was deleted and created again';
comment on column projector.drift.partition is 'Kafka partition';
comment on column projector.drift.source_offset is 'offset where it was first seen';
comment on column projector.drift.example is 'the value there, redacted and shortened';
comment on column projector.drift.found_at is 'when it was first seen';
comment on column projector.drift.hour is 'the hour of found_at';

grant select on projector.drift to normalizer_writer, projector_reader;
