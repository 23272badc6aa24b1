create or replace view projector.deployments as
select   projector.to_hour(min(first_at)) as hour, playbook,
         nullif(version, '') as version, min(first_at) as first_at
from     projector.deployment_marks
group by playbook, deployment_marks.version;

comment on view projector.deployments is
    'When did the first execution of each version of a playbook begin? A row stays when retention '
    'deletes that execution. A playbook has rows if the events that begin its executions name it.';
comment on column projector.deployments.hour is 'the hour of first_at, UTC';
comment on column projector.deployments.playbook is 'path of the playbook';
comment on column projector.deployments.version is
    'version of the playbook, or null if the events that begin its executions name none';
comment on column projector.deployments.first_at is 'when its first execution began';

grant select on projector.deployments to normalizer_writer, projector_reader;
