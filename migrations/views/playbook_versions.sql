create or replace view projector.playbook_versions as
select   hour, playbook, version, count(*) as executions,
         count(*) filter (where status = 'COMPLETED') as completed,
         count(*) filter (where status = 'FAILED') as failed,
         count(*) filter (where status = 'CANCELLED') as cancelled,
         extract(epoch from sum(ended_at - first_at))::double precision as total_duration_s
from     projector.executions
group by hour, playbook, version;

comment on view projector.playbook_versions is
    'How do versions of a playbook compare? Counted by the hour of the first event. '
    'total_duration_s adds up those that ended.';
comment on column projector.playbook_versions.hour is 'the hour, UTC';
comment on column projector.playbook_versions.playbook is
    'path of the playbook, or empty while it is not known';
comment on column projector.playbook_versions.version is
    'version of the playbook, if the event that begins it names it with the path';
comment on column projector.playbook_versions.executions is 'executions';
comment on column projector.playbook_versions.completed is 'those that completed';
comment on column projector.playbook_versions.failed is 'those that failed';
comment on column projector.playbook_versions.cancelled is 'those that were cancelled';
comment on column projector.playbook_versions.total_duration_s is
    'seconds from first event to end, of all that ended';

grant select on projector.playbook_versions to normalizer_writer, projector_reader;
