-- Drift: top-level fields of producers that are not as documented. The service limits the number of
-- findings of a shape and the length of examples. This is a sample. The values themselves are in
-- events.

set local search_path = "$user", public, normalizer;


create table normalizer.drift_findings (
    shape              text        not null,
    field              text        not null,
    type               text        not null,
    kind               text        not null,
    source_topic       text        not null,
    source_incarnation integer     not null,
    source_partition   integer     not null,
    source_offset      bigint      not null,
    example            text        not null,
    found_at           timestamptz not null default now(),
    constraint drift_findings_pkey primary key (shape, field, type),
    constraint drift_findings_kind check (kind in ('unknown_key', 'changed_type'))
);

comment on table normalizer.drift_findings is
    'Private: top-level fields that are not documented, and documented ones with a value of '
    'another type, by shape, with the record where each was first seen and an example '
    '(redacted). Delete a row to get the finding again. View: drift.';


create view projector.drift as
select shape, field, type, kind, source_topic as topic, source_incarnation as incarnation,
       source_partition as partition, source_offset, example, found_at,
       projector.hour_of(found_at) as hour
from   normalizer.drift_findings;

comment on view projector.drift is
    'What do producers send that is not documented, or has another type than documented, since '
    'when, and where is an example? A sample: only quiet traffic is examined completely.';

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

grant select, insert on normalizer.drift_findings to normalizer_writer;
grant select on projector.drift to normalizer_writer, projector_reader;

insert into migrations.applied (version) values ('0013') on conflict do nothing;
