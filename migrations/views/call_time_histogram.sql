create or replace view projector.call_time_histogram as
select hour, measure, playbook, step, attempts, status, bucket, calls
from   projector.call_times
where  calls <> 0;

comment on view projector.call_time_histogram is
    'How long do calls take (measure duration), how long do commands wait from issued to claimed '
    '(queue), and how long do retries wait after the failure before them (backoff)? Counted by the '
    'hour of their end. Calls that still wait are in open_calls. projector.percentile(0.95, '
    'bucket, calls) gives seconds, over any hours and keys. It is the middle of a bucket, at most '
    '4.5 % off. Always sum rows, as in event_counts. Calls of the step __orchestrate__ are left '
    'out.';
comment on column projector.call_time_histogram.hour is 'the hour, UTC';
comment on column projector.call_time_histogram.measure is
    'what was measured: duration, queue or backoff';
comment on column projector.call_time_histogram.playbook is
    'path of the playbook, or empty while it is not known';
comment on column projector.call_time_histogram.step is
    'name of the step, or empty if no event names one';
comment on column projector.call_time_histogram.attempts is
    'number of attempts before this one: 0 is the first';
comment on column projector.call_time_histogram.status is 'canonical status';
comment on column projector.call_time_histogram.bucket is
    'number of the bucket in the histogram: from 2^(bucket/8) microseconds';
comment on column projector.call_time_histogram.calls is
    'number of finished attempts (rows of projector.calls)';

grant select on projector.call_time_histogram to normalizer_writer, projector_reader;
