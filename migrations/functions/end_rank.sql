-- Takes one end of an attempt: who reported it, when (as encode_time returns it), and with what
-- outcome. Returns the rank of the end, a text of 20 characters. If an attempt has several ends,
-- the one with the least rank decides how it ended. So a failure decides before a cancellation, and
-- that before a completion. call_facts_from_event and derive_calls call this for each event of a
-- call. If the event isn't an end, `reporter` is null, and so is the result. No end has another
-- outcome than the four below (event_kinds_outcome, call_facts_from_event).
--
-- For example, `2 0 10002f93cbbf3060a 3`, without the spaces, is a call that completed on
-- 2026-07-10 at 09:00:00.041482 UTC. The parts of a rank:
--     position | part                                                       | read by
--            1 | class of the outcome: 0 for FAILED and ERROR,              | call_failed
--              |     1 for CANCELLED, 2 for COMPLETED                       |
--            2 | reporter: 0 for the call itself, 1 for its command         | nobody, it only sorts
--      3 to 19 | time of the report (encode_time)                           | call_finished_at
--           20 | outcome: 0 FAILED, 1 ERROR, 2 CANCELLED, 3 COMPLETED       | call_outcome
-- Three kinds of texts begin with a rank. This follows it, from position 21 on:
--     outcome_ranked | 0 if the end names the number of its attempt, else 1 | attempt_number_source
--     error_ranked   | the error text                                       | call_error
--     end_key        | the class of the event's type (type call_event)      | nobody
-- If you change the rank, stored rows keep the old one, and new ranks are compared with it. So
-- `projector repair --all` must fold their events again.
create or replace function projector.end_rank(reporter text, moment text, outcome text) returns text
    language sql immutable parallel safe
    return case outcome
        when 'COMPLETED' then '2' || reporter || moment || '3'
        when 'CANCELLED' then '1' || reporter || moment || '2'
        when 'ERROR' then '0' || reporter || moment || '1'
        when 'FAILED' then '0' || reporter || moment || '0'
    end;
