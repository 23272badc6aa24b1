create or replace view projector.redrive_attempts as
select quarantine_id, tried_at, projector.to_hour(tried_at) as hour, tried_by, outcome, detail,
       normalizer_version, job_id, run
from   normalizer.redrive_attempts;

comment on view projector.redrive_attempts is
    'Which rejected records did somebody try to redrive, when, under which rules, and what was '
    'the outcome? Filter by quarantine_id. A dry run writes nothing, so it is not here.';
comment on column projector.redrive_attempts.quarantine_id is
    'id of the entry, as in quarantine_records';
comment on column projector.redrive_attempts.tried_at is 'when it was tried';
comment on column projector.redrive_attempts.hour is 'the hour of tried_at';
comment on column projector.redrive_attempts.tried_by is 'the database user who tried it';
comment on column projector.redrive_attempts.outcome is
    'redriven, rejected again, or gone: retention or an erasure took it';
comment on column projector.redrive_attempts.detail is 'why it was rejected again';
comment on column projector.redrive_attempts.normalizer_version is
    'version of the rules that tried it';
comment on column projector.redrive_attempts.job_id is 'id of the redrive';
comment on column projector.redrive_attempts.run is 'number of its run, from 1';

grant select on projector.redrive_attempts to normalizer_writer, projector_reader;
