create or replace view projector.quarantine_by_reason as
select   hour, reason, shape, sum(refused)::bigint as refused
from     projector.quarantine_hours
group by hour, reason, shape
having   sum(refused) <> 0;

comment on view projector.quarantine_by_reason is
    'What was refused, why, and in which shape, by hour? `normalizer quarantine list` shows '
    'each entry.';
comment on column projector.quarantine_by_reason.hour is 'the hour, UTC';
comment on column projector.quarantine_by_reason.reason is 'why';
comment on column projector.quarantine_by_reason.shape is 'wire shape of the record';
comment on column projector.quarantine_by_reason.refused is
    'records and events that went to quarantine';

grant select on projector.quarantine_by_reason to normalizer_writer, projector_reader;
