-- Returns what one event reports about its call. The trigger, repair, and verify all use this
-- function, so they can't disagree. `role` and `type_outcome` come from event_kinds. `reporter` is
-- 0 if the call itself reports its end, and 1 if its command does. If the event isn't an end, then
-- reporter, outcome, duration, and error are null.
--
-- The rank of an error is the rank of the end that reported it (end_rank), and only a failed end
-- has an error. The rank of a duration is made of its reporter and its time (encode_time explains
-- ranked values). PostgreSQL inlines this function, so calling it costs nothing.
create or replace function projector.report_on_call(
    role text, type_outcome text, status text, created_at timestamptz, evidence smallint,
    step text, worker_id text, max_attempts integer, duration double precision, error text,
    context jsonb, result jsonb
)
    returns table (
        reporter text, outcome_ranked text, duration_ranked text, error_ranked text,
        step_ranked text, worker_ranked text, max_attempts_ranked text
    )
    language sql immutable parallel safe rows 1
begin atomic
    select said.reporter,
           projector.end_rank(said.reporter, said.moment, said.outcome)
           || case when projector.evidence_rank(evidence, 'attempts') > 0 then '0' else '1' end,
           -- Store whole microseconds, so that sums stay exact when a duration is subtracted again.
           -- A duration of more than 30 days is ignored, because no call lasts that long.
           case
               when duration between 0 and 2592000
               then said.reporter || said.moment
                    || encode(int8send(round(duration * 1000000)::bigint), 'hex')
           end,
           case
               when said.outcome <> 'COMPLETED' and error <> ''
               then projector.end_rank(said.reporter, said.moment, said.outcome)
                    || left(error, 1000)
           end,
           case when step <> '' then said.moment || step end,
           case when worker_id <> '' then said.moment || worker_id end,
           said.moment || encode(int8send(max_attempts), 'hex')
    from   (
               select projector.encode_time(created_at) as moment,
                      case
                          when status in ('COMPLETED', 'FAILED', 'ERROR', 'CANCELLED') then status
                          else type_outcome
                      end as outcome,
                      -- A completion may hand the call over to a callback, which reports the end
                      -- later. Such a completion isn't an end. The worker says so in `context`, and
                      -- some servers store this in `result.context`. Workers before 5.93.0 don't
                      -- say so, and their completion counts as an end.
                      case
                          when role = 'done' then '0'
                          when role = 'ended' and not (
                              type_outcome = 'COMPLETED'
                              and (
                                  coalesce(context @> '{"pending_callback": true}', false)
                                  or coalesce(
                                         result @> '{"context": {"pending_callback": true}}', false
                                     )
                              )
                          ) then '1'
                      end as reporter
               offset 0
           ) as said;
end;
