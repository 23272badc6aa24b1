create or replace view projector.gaps as
select topic, partition, incarnation, lower(missing) as first_offset,
       upper(missing) as next_offset, missing, offsets, reason, found_at,
       projector.to_hour(found_at) as hour
from   normalizer.gaps;

comment on view projector.gaps is
    'How many offsets between first_offset and next_offset gave no record, and why? hole: the '
    'broker had none there (markers of transactions share a row with their neighbours). '
    'expired: Kafka deleted them before they were read. skipped: an operator skipped them.';
comment on column projector.gaps.topic is 'topic';
comment on column projector.gaps.partition is 'partition of the topic';
comment on column projector.gaps.incarnation is 'how often the topic was deleted and created again';
comment on column projector.gaps.first_offset is 'the first offset without a record';
comment on column projector.gaps.next_offset is 'the offset after the last one without a record';
comment on column projector.gaps.missing is 'the offsets themselves: missing @> 1042::bigint';
comment on column projector.gaps.offsets is 'how many offsets';
comment on column projector.gaps.reason is 'why';
comment on column projector.gaps.found_at is 'when the gap was found';
comment on column projector.gaps.hour is 'the hour, UTC';

grant select on projector.gaps to normalizer_writer, projector_reader;
