-- Finds the attempt of each event of the commands in doubt. Some events of such a command don't say
-- to which attempt they belong, although something hints at a second attempt (derive_calls).
-- Returns the number of the attempt for each event. For example, the number 1 for the last two of
-- these events:
--     event_id | role   | created_at | end_slot | end_key         | number returned
--           11 | issued | 09:00:00   |          |                 |               0
--           12 | done   | 09:00:05   |        0 | 00..0call.error |               0
--           13 | issued | 09:00:20   |          |                 |               1
--           14 | done   | 09:00:25   |        0 | 20..3call.done  |               1
--
-- This function calls five others. The first two list the attempts. The next one sets `nth_attempt`
-- of each event, i.e. its attempt's position in that list, and each of the last two corrects it by
-- one more rule. No rule changes the attempt of an event that declares its number. The types
-- call_event and call_attempt explain all columns (0007_create_calls.sql).
--
-- Each rule has examples, which list the events of a command and, after the arrow, the number of
-- each event's attempt. The events are in the order of the clocks, except where the log is given.
-- There, `@` is the time by the clocks, and `late` means that the record has no place in the log.
-- `#1` is a declared number.
--
-- find_attempts and correct_log_positions find which attempts there are, and when each began:
--    R1a. An attempt is known by a number, or by an issue of its own.
--            issued, failed, issued, done -> 0, 0, 1, 1
--    R1b. An issue without a number belongs to the lowest attempt whose number nobody declares. If
--        other issues have numbers, it can only belong to an attempt below the highest of these.
--            issued, issued #1, done -> 0, 1, 1
--    R1c. If the first numbered attempt is a retry that nobody issued, and an end without a number
--        came before its claim or start, there's one attempt before it.
--            failed, started #1, done -> 0, 1, 1
--    R2. An attempt begins at its numbered issue, or else at its first numbered claim or start, or
--        else at its issue without a number, or else just after the end of the previous attempt. If
--        its issue came late, so that the log first shows a second claim or start after the end of
--        the previous attempt, then it begins at that claim or start.
--            issued #0, failed, started, done #1 -> 0, 0, 1, 1
--            log: started @2, failed @3, started @12, done @13, issued @1, issued @11
--                 -> 0, 0, 1, 1, 0, 1
--
-- assign_events_by_time finds the attempt of each event by time:
--    R3. An event belongs to the last attempt that had begun before it, or to the first attempt if
--        none had. An issue, claim, or start also belongs to an attempt that began at that time.
--        If all events of the command with a place lie in one log, their places tell what came
--        first. Otherwise the clocks of the producers do. An end without a place, if other events
--        have one, belongs instead to the last attempt that has neither an end in the log nor a
--        numbered one, and whose claim or start came before it by the clocks. If there's no such
--        attempt, it stays where the clocks put it. Clocks of different workers may disagree.
--            issued, issued #1, done -> 0, 1, 1
--            log: issued @0, started @1, issued #1 @2, done @3, failed @4 late -> 0, 0, 1, 1, 0
--
-- assign_ends_by_slot separates ends that can't belong to the same attempt:
--    R4. An attempt has one end of its command, and one of each of its calls (by call_index). If
--        several ends without a number fall into one attempt, the earlier ones move to attempts
--        before it that have none, or else the later ones move to attempts after it.
--            issued, issued #1, failed, done -> 0, 1, 0, 1
--
-- assign_ends_by_kind uses the kinds of the ends:
--    R5. If an event has no place in that log, or an attempt before the last has no end, the kinds
--        of the ends may tell more, in the order of the clocks. An end belongs to the next attempt
--        if it comes after an end of the command, or after an end of the same call or a later one.
--        An end of the command also belongs to the next attempt if it comes after a claim or a
--        start, or if it completes the command after a failed call. If that makes one group of ends
--        for each attempt, the groups belong to the attempts in this order, or to those that they
--        declare.
--            issued, issued #1, failed, command failed -> 0, 1, 1, 1
--            issued, issued #1, failed, command completed -> 0, 1, 0, 1
--
-- If there are several ends or groups, a completion is the last of them, because only failures are
-- retried. An attempt ends when its last call does, so an end that is followed by one with a
-- greater call_index doesn't end it. Each rule is applied once, in this order, and the last one
-- that places an event wins. For example, the groups of R5 replace what R4 decided. The rules can
-- err where events allow several answers, and docs/decisions/0015-tries-of-calls.md says how often.
-- deploy/calls.py follows the same rules. If you change a rule, rows already stored keep the
-- attempts of the old one until `projector repair --all` folds their events again.
create or replace function projector.resolve_attempts(events projector.call_event[])
    returns table (event_id bigint, number integer)
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
    -- The planner expects only a few events in an array, so it would choose a nested loop. If the
    -- array holds the events of all commands in a batch, that would take quadratic time.
    set enable_hashjoin = on
    set enable_nestloop = off
as $$
#variable_conflict use_column
declare
    attempts call_attempt[];
begin
    -- Usually no command is in doubt. Return at once in that case, because starting the queries
    -- below costs more than everything else in derive_calls.
    if cardinality(events) = 0 then
        return;
    end if;
    attempts := array(select attempt from find_attempts(events) as attempt);
    attempts := array(select attempt from correct_log_positions(events, attempts) as attempt);
    events := array(select event from assign_events_by_time(events, attempts) as event);
    events := array(select event from assign_ends_by_slot(events, attempts) as event);
    events := array(select event from assign_ends_by_kind(events, attempts) as event);
    return query
        select event.event_id, attempt.number
        from   unnest(events) as event
        join   unnest(attempts) as attempt using (nth_command, nth_attempt);
end
$$;
