create or replace view projector.retry_storms as
select step, minute, first_tries_now, retries_now, first_tries_baseline, retries_baseline,
       retries_now / minutes_now as per_minute_now,
       retries_baseline::double precision / 60 as per_minute_baseline,
       ratio_now, ratio_baseline, ratio_now / nullif(ratio_baseline, 0) as ratio_vs_baseline,
       retries_now >= 20
           and 10 * retries_now >= 3 * greatest(first_tries_now, 1)
           and retries_now * greatest(first_tries_baseline, 1)
               >= 3 * retries_baseline * greatest(first_tries_now, 1) as storm
from   (
           select step, minute, first_tries_now, retries_now, first_tries_baseline,
                  retries_baseline, minutes_now,
                  retries_now::double precision / greatest(first_tries_now, 1) as ratio_now,
                  case
                      when first_tries_baseline + retries_baseline > 0
                      then retries_baseline::double precision / greatest(first_tries_baseline, 1)
                  end as ratio_baseline
           from   (
                      select   step, max(minute) filter (where retries <> 0) as minute,
                               coalesce(sum(first_tries) filter (where minute >= since), 0)::bigint
                                   as first_tries_now,
                               coalesce(sum(retries) filter (where minute >= since), 0)::bigint
                                   as retries_now,
                               coalesce(sum(first_tries) filter (where minute < since), 0)::bigint
                                   as first_tries_baseline,
                               coalesce(sum(retries) filter (where minute < since), 0)::bigint
                                   as retries_baseline,
                               extract(epoch from now() - min(since))::double precision / 60
                                   as minutes_now
                      from     projector.retries_by_minute
                      cross join (
                          select date_trunc('minute', now()) - interval '5 minutes' as since
                      ) as latest
                      where    minute >= date_trunc('minute', now()) - interval '65 minutes'
                      and      minute <= now()
                      group by step
                      having   sum(retries) <> 0
                  ) as counted
       ) as rated;

comment on view projector.retry_storms is
    'Which steps retry more now than usual? Compares retries per first attempt of the last 5 '
    'minutes and the current one with those of the 60 minutes before. storm is true if there are '
    'at least 20 retries now, and the ratio is at least 3 times the usual one (0.1 if that is '
    'lower or not known). So more traffic alone is not a storm. Calls of the step __orchestrate__ '
    'are left out.';
comment on column projector.retry_storms.step is 'name of the step, or empty if no event names one';
comment on column projector.retry_storms.minute is 'the last minute with a retry';
comment on column projector.retry_storms.first_tries_now is
    'first attempts that ended in the last 5 minutes';
comment on column projector.retry_storms.retries_now is 'retries that ended in the last 5 minutes';
comment on column projector.retry_storms.first_tries_baseline is
    'first attempts in the 60 minutes before those';
comment on column projector.retry_storms.retries_baseline is
    'retries in the 60 minutes before those';
comment on column projector.retry_storms.per_minute_now is
    'retries per minute that ended in the last 5 minutes';
comment on column projector.retry_storms.per_minute_baseline is
    'retries per minute in the 60 minutes before those';
comment on column projector.retry_storms.ratio_now is
    'retries_now / first_tries_now, or / 1 without any';
comment on column projector.retry_storms.ratio_baseline is
    'retries_baseline / first_tries_baseline, or / 1 without any, or null without attempts';
comment on column projector.retry_storms.ratio_vs_baseline is 'ratio_now / ratio_baseline';
comment on column projector.retry_storms.storm is 'whether it retries much more than usual';

grant select on projector.retry_storms to normalizer_writer, projector_reader;
