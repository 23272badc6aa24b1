-- Assigns ends of calls and commands to attempts by their kinds, if their times don't tell enough
-- (rule R5 of resolve_attempts, which calls this last). Takes the events and attempts of commands
-- in doubt, and returns the events, some with another `nth_attempt`. The types call_event and
-- call_attempt explain the columns (0007_create_calls.sql). Rules such as "a command that completes
-- after its call failed was retried" split the ends of a command into groups. The ends change their
-- attempts only if there's exactly one group for each attempt of the command.
--
-- For example, none of these events is in the log, and by its clock the second issue came last:
--     role   | created_at | end_key            | group | nth_attempt is | and becomes
--     issued | 09:00:00   |                    |       |              1 | 1
--     done   | 09:00:05   | 00..0call.error    |     1 |              1 | 1
--     ended  | 09:00:25   | 21..3command.com.. |     2 |              1 | 2
--     issued | 09:00:40   |                    |       |              2 | 2
--     1. find the commands that may have an end in the wrong attempt
--     2. list their ends, each of them once
--     3. split the ends of each command into groups
--     4. find the commands with one group for each attempt
--     5. give each of their groups an attempt
create or replace function projector.assign_ends_by_kind(
    events projector.call_event[], attempts projector.call_attempt[]
)
    returns setof projector.call_event
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        with event as (
            select * from unnest(assign_ends_by_kind.events)
        ),
        -- 1. R5 changes an attempt only if the times may have misled the rules before it. They may
        -- have in two cases. An event that isn't in the log has a place by the clocks only, which
        -- may be wrong. And an attempt is retried because it failed, so if one before the last has
        -- no end, its end may be in another attempt.
        unclear_command as (
            select   nth_command, last_attempt
            from     event
            join     (
                         select   nth_command, max(nth_attempt) as last_attempt
                         from     unnest(assign_ends_by_kind.attempts)
                         group by nth_command
                     ) as command using (nth_command)
            group by nth_command, last_attempt
            having   bool_or(log_position is null)
            or       count(distinct nth_attempt)
                         filter (where end_slot is not null and nth_attempt < last_attempt)
                     < last_attempt - 1
        ),
        -- 2. A take is a claim or a start. Several events may report the same end. `first_declared`
        -- and `last_declared` are the attempts whose numbers they declare, usually none or one.
        end_or_take as (
            select   nth_command, role, end_slot, end_key, created_at,
                     min(nth_attempt) filter (where declared_number is not null)
                         as first_declared,
                     max(nth_attempt) filter (where declared_number is not null)
                         as last_declared
            from     event
            join     unclear_command using (nth_command)
            where    end_slot is not null
            or       role in ('claimed', 'started')
            group by nth_command, role, end_slot, end_key, created_at
        ),
        -- `takes_before` is the number of claims and starts of the command before this end.
        call_end as (
            select nth_command, role, end_slot, end_key, created_at, takes_before,
                   -- An end_key begins with a rank (end_rank), as outcome_ranked does.
                   call_outcome(end_key) = 'COMPLETED' as is_completed, first_declared,
                   last_declared
            from   (
                       select *,
                              count(*) filter (where end_slot is null) over (
                                  partition by nth_command order by created_at, end_slot nulls first
                              ) as takes_before
                       from   end_or_take
                   ) as counted
            where  end_slot is not null
        ),
        -- 3. An end begins a group if it can't belong to the same attempt as the end before it:
        --     - An attempt has one end of each call, in the order of call_index, and then that of
        --       its command. So an end after the end of the same call, of a later call, or of the
        --       command (the highest slot) is of the next attempt.
        --     - A worker ends the command after its calls without taking it again. So an end of the
        --       command after another claim or start is of the attempt that was taken then.
        --     - A command fails if its call did. So one that completes after a failure was retried.
        -- The first end begins the first group.
        grouped_end as (
            select *,
                   count(*) filter (where begins_group) over (
                       partition by nth_command order by created_at, end_slot, end_key
                       rows unbounded preceding
                   ) as nth_group
            from   (
                       select *,
                              coalesce(
                                  end_slot <= lag(end_slot) over in_order
                                  or role = 'ended'
                                     and (
                                         takes_before > lag(takes_before) over in_order
                                         or is_completed and not lag(is_completed) over in_order
                                     ),
                                  true
                              ) as begins_group
                       from   call_end
                       window in_order as (
                           partition by nth_command order by created_at, end_slot, end_key
                       )
                   ) as compared_end
        ),
        end_group as (
            select   nth_command, nth_group, min(first_declared) as first_declared,
                     max(last_declared) as last_declared, bool_and(is_completed) as is_completed
            from     grouped_end
            group by nth_command, nth_group
        ),
        -- 4. The groups can't be right if there are more or fewer of them than attempts, if the
        -- ends in a group declare two attempts, or if two groups declare the same one. The command
        -- is left out then. `free_attempts` lists the attempts that no group declares. Its
        -- `array_agg` has only a column of the outer query, so it aggregates there, over all groups
        -- of the command. The inner query only unnests the result.
        matched_command as (
            select   nth_command,
                     array(
                         select generate_series(1, last_attempt)
                         except
                         select unnest(array_agg(first_declared))
                         order by 1
                     ) as free_attempts
            from     end_group
            join     unclear_command using (nth_command)
            group by nth_command, last_attempt
            having   count(*) = last_attempt
            and      count(first_declared) = count(distinct first_declared)
            and      count(*) filter (where first_declared < last_declared) = 0
        ),
        -- 5. A group that declares its attempt belongs to it. The others take the free attempts in
        -- order, with completed groups last, because only failures are retried.
        assigned_group as (
            select nth_command, nth_group,
                   coalesce(
                       first_declared,
                       free_attempts[
                           row_number() over (
                               partition by nth_command, first_declared is null
                               order by is_completed, nth_group
                           )
                       ]
                   ) as group_attempt
            from   end_group
            join   matched_command using (nth_command)
        )
        -- An `end_key` holds the reporter, the time, and the event's class, so it implies the role
        -- and created_at (end_rank). So at most one row of grouped_end matches an event. A claim or
        -- start matches none, because its `end_slot` is null.
        select event_id, nth_command, event.role, declared_number, event.created_at, log_position,
               end_slot, end_key,
               case
                   when declared_number is not null then nth_attempt
                   else coalesce(group_attempt, nth_attempt)
               end
        from   event
        left join grouped_end using (nth_command, end_slot, end_key)
        left join assigned_group using (nth_command, nth_group);
end
$$;
