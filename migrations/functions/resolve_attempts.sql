-- Finds the attempt of each event of commands in doubt: some of their events don't say which attempt
-- they are of, although something hints at a second one (aggregate_calls). It calls five functions.
-- The first two find the attempts. Each of the others corrects `nth`, the attempt of each event, by
-- one more rule. No rule changes the attempt of an event that declares its number.
--
-- Each rule has examples: the events of a command, and after the arrow the attempt of each. They come
-- in the order of the clocks, except where the log is given. There, `@` is the time by the clocks, and
-- `late` means that the record has no place in the log. `#1` is a declared number.
--
-- find_attempts and correct_begins, which attempts there are, and when each began:
--    R1. An attempt is known by a number, or by an issue of its own: an issue without a number is
--        of the lowest attempt that nobody names. Where other issues have numbers, it's only of one
--        below the highest of them. If the first numbered attempt is a retry that nobody issued,
--        and an end without a number came before its claim or start, there's one before it.
--            issued, failed, issued, done -> 0, 0, 1, 1
--            issued, issued #1, done -> 0, 1, 1
--            failed, started #1, done -> 0, 1, 1
--    R2. An attempt begins at its numbered issue, else at its first numbered claim or start, else
--        at its issue without a number, else just after the end of the attempt before. If its issue
--        came late, so that the log has a second claim or start first, after the end of the attempt
--        before, it begins at these.
--            issued #0, failed, started, done #1 -> 0, 0, 1, 1
--            log: started @2, failed @3, started @12, done @13, issued @1, issued @11
--                 -> 0, 0, 1, 1, 0, 1
--
-- place_events, the attempt of each event by time:
--    R3. The event is of the last attempt that had begun before it (an issue, claim, or start: also
--        at the same time), or of the first attempt if none had. Their places in the log tell
--        what came first, if all events of the command with a place lie in one log. Otherwise the
--        clocks of the producers do. An end without a place, where others have one, is rather of the
--        last attempt that has neither an end in the log nor a numbered one, and whose claim or
--        start came before it by the clocks. These may be clocks of several workers, which disagree.
--            issued, issued #1, done -> 0, 1, 1
--            log: issued @0, started @1, issued #1 @2, done @3, failed @4 late -> 0, 0, 1, 1, 0
--
-- spread_ends, no two ends in one place:
--    R4. An attempt has one end of its command, and one of each of its calls (by call_index). If
--        several without a number fall into one attempt, the earlier ones go to attempts before it
--        that have none, or else the later ones to attempts after it.
--            issued, issued #1, failed, done -> 0, 1, 0, 1
--
-- group_ends, what the kinds of the ends tell:
--    R5. Where an event has no place in that log, or an attempt before the last has no end, the
--        kinds of the ends may tell more, in the order of the clocks. An end is of the next attempt
--        if it comes after an end of the command, or of the same call or a later one. An end of the
--        command is also of the next attempt if it comes after a claim or a start, or if it
--        completes the command after a failed call. If that makes one group of ends for each
--        attempt, the groups are of the attempts in this order, or of those that they name.
--            issued, issued #1, failed, command failed -> 0, 1, 1, 1
--            issued, issued #1, failed, command completed -> 0, 1, 0, 1
--
-- A completion is the last of several ends or groups, because only failures are retried.
-- An attempt ends when its last call does: an end that one with a greater call_index follows does
-- not end it. deploy/calls.py follows the same rules.
create or replace function projector.resolve_attempts(events projector.call_event[])
    returns table (event_id bigint, number integer)
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
    -- The planner expects few events in an array. A nested loop over all of a batch's commands would
    -- take quadratic time.
    set enable_hashjoin = on
    set enable_nestloop = off
as $$
#variable_conflict use_column
declare
    attempts call_attempt[];
begin
    -- Most commands are not in doubt, and starting a query costs more than all of aggregate_calls.
    if cardinality(events) = 0 then
        return;
    end if;
    attempts := array(select found from find_attempts(events) as found);
    attempts := array(select corrected from correct_begins(events, attempts) as corrected);
    events := array(select placed from place_events(events, attempts) as placed);
    events := array(select spread from spread_ends(events, attempts) as spread);
    events := array(select grouped from group_ends(events, attempts) as grouped);
    return query
        select event.event_id, attempt.number
        from   unnest(events) as event
        join   unnest(attempts) as attempt using (command, nth);
end
$$;
