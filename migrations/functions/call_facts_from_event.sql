-- Returns what one event reports about its call. The trigger, repair, and verify all use this
-- function, so they can't disagree. `role` and `type_outcome` come from event_kinds. `reporter` is
-- 0 if the call itself reports its end, and 1 if its command does. If the event isn't an end, then
-- reporter, outcome, duration, and error are null.
--
-- Each of the other results is a ranked value: its first characters are its rank, and the rest is
-- the value. If the events of an attempt disagree, the least ranked value wins, in each column by
-- itself. So the outcome, error, and duration of an attempt may come from different events: the
-- outcome from its worst end, the error from its worst end with an error text, and the duration
-- from the first end of the call that reports one, or else from that of its command.
-- For example, this is the report of a call.error event of step `a` by worker `w1`, without a
-- number, that says FAILED after 0.5 s for `HTTP 500`. TIME is the 17 characters of its created_at
-- (encode_time):
--     column              | value                     | the rank is
--     outcome_ranked      | 0 0 TIME 0 1              | all of it (end_rank), and 1 for no number
--     error_ranked        | 0 0 TIME 0 HTTP 500       | that of the end (end_rank)
--     duration_ranked     | 0 TIME 000000000007a120   | the reporter and the time
--     step_ranked         | TIME a                    | the time
--     worker_ranked       | TIME w1                   | the time
--     max_attempts_ranked | null, it names no maximum | the time
-- The spaces are only here, not in the values. PostgreSQL inlines this function, so calling it
-- costs nothing.
create or replace function projector.call_facts_from_event(
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
    select event.reporter,
           projector.end_rank(event.reporter, event.encoded_time, event.outcome)
           || case when projector.evidence_rank(evidence, 'attempts') > 0 then '0' else '1' end,
           -- Store whole microseconds, so that sums stay exact when a duration is subtracted again.
           -- A negative duration is ignored, and so is one of more than 30 days, because no call
           -- lasts that long.
           case
               when duration between 0 and 2592000
               then event.reporter || event.encoded_time
                    || encode(int8send(round(duration * 1000000)::bigint), 'hex')
           end,
           case
               when event.outcome <> 'COMPLETED' and error <> ''
               then projector.end_rank(event.reporter, event.encoded_time, event.outcome)
                    || left(error, 1000)
           end,
           case when step <> '' then event.encoded_time || step end,
           case when worker_id <> '' then event.encoded_time || worker_id end,
           event.encoded_time || encode(int8send(max_attempts), 'hex')
    from   (
               select projector.encode_time(created_at) as encoded_time,
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
           ) as event;
end;
