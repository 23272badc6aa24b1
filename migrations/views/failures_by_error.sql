create or replace view projector.failures_by_error as
select   hour, step, attempts, status, error_class, sum(calls)::bigint as calls
from     projector.error_hours
group by hour, step, attempts, status, error_class
having   sum(calls) <> 0;

comment on view projector.failures_by_error is
    'Which errors do calls fail with, by attempt? error_class is the error text without its ids, '
    'e-mail addresses and quoted parts. It keeps HTTP and exit codes. Calls of the step '
    '__orchestrate__ are left out.';
comment on column projector.failures_by_error.hour is 'the hour, UTC';
comment on column projector.failures_by_error.step is
    'name of the step, or empty if no event names one';
comment on column projector.failures_by_error.attempts is
    'number of attempts before this one: 0 is the first';
comment on column projector.failures_by_error.status is 'canonical status';
comment on column projector.failures_by_error.error_class is
    'error text without quoted parts, e-mail addresses and ids, which are words with a digit or of '
    'eight or more letters from a to f, with codes such as HTTP 404 kept, or null if it did not '
    'fail';
comment on column projector.failures_by_error.calls is
    'number of finished attempts (rows of projector.calls)';

grant select on projector.failures_by_error to normalizer_writer, projector_reader;
