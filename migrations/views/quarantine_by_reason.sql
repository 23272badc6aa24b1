create or replace view projector.quarantine_by_reason as
select   projector.to_hour(quarantined_at) as hour, reason, shape, count(*) as rejected
from     normalizer.quarantine
group by projector.to_hour(quarantined_at), reason, shape;

comment on view projector.quarantine_by_reason is
    'What was rejected, why, and in which shape, by hour? `normalizer quarantine list` shows each '
    'entry. When entries are deleted, so are their counts (`projector maintain '
    '--keep-quarantine`).';
comment on column projector.quarantine_by_reason.hour is 'the hour, UTC';
comment on column projector.quarantine_by_reason.reason is 'why';
comment on column projector.quarantine_by_reason.shape is 'wire shape of the record';
comment on column projector.quarantine_by_reason.rejected is
    'records and events that went to quarantine';

grant select on projector.quarantine_by_reason to normalizer_writer, projector_reader;
