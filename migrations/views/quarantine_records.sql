-- Leaves out the rejected bytes, because only the owner and redrive may read them.
create or replace view projector.quarantine_records as
select quarantine_id, projector.to_hour(quarantined_at) as hour, quarantined_at, reason, detail,
       sqlstate, shape, normalizer_version, source_topic as topic,
       source_incarnation as incarnation, source_partition as partition, source_offset,
       source_index, recorded_at, value_bytes, redriven_at, sample, execution_id,
       case
           when execution_id is null then null
           when execution_in_key then 'key'
           else 'value'
       end as execution_id_source
from   normalizer.quarantine;

comment on view projector.quarantine_records is
    'Which records were rejected, why, what are their coordinates, and how do they begin? Put '
    'your time range on quarantined_at, because it reaches an index.';
comment on column projector.quarantine_records.quarantine_id is
    'id of the entry, for `normalizer quarantine show`';
comment on column projector.quarantine_records.hour is 'the hour of quarantined_at';
comment on column projector.quarantine_records.quarantined_at is 'when it was rejected';
comment on column projector.quarantine_records.reason is 'reason, one of a fixed list';
comment on column projector.quarantine_records.detail is
    'reason in a sentence, with the path inside the record';
comment on column projector.quarantine_records.sqlstate is
    'SQLSTATE, if PostgreSQL rejected the row';
comment on column projector.quarantine_records.shape is
    'wire shape of the record, or empty if it was not recognized';
comment on column projector.quarantine_records.normalizer_version is
    'version of the rules that rejected it';
comment on column projector.quarantine_records.topic is 'coordinates of the record';
comment on column projector.quarantine_records.incarnation is
    'how often the topic was deleted and created again';
comment on column projector.quarantine_records.partition is 'coordinates of the record';
comment on column projector.quarantine_records.source_offset is 'coordinates of the record';
comment on column projector.quarantine_records.source_index is
    'index of the event in the record, from 0';
comment on column projector.quarantine_records.recorded_at is 'when Kafka received it';
comment on column projector.quarantine_records.value_bytes is 'size of the value in bytes';
comment on column projector.quarantine_records.redriven_at is
    'when a redrive stored it, or null if none did';
comment on column projector.quarantine_records.sample is
    'first 2 kB of the record, on its first rejection, or null if they are not text, if anything '
    'in the record may be a secret, if it is larger than 8 MiB, or after the bytes were deleted';
comment on column projector.quarantine_records.execution_id is
    'execution that the record names in its value, else in its key, or null if neither can be read';
comment on column projector.quarantine_records.execution_id_source is
    'where execution_id was read: value or key, or null without one';

grant select on projector.quarantine_records to normalizer_writer, projector_reader;
