-- Moves ends to other attempts if several fall into the same slot (rule R4 of resolve_attempts).
-- Takes the events and attempts of commands in doubt, and returns the events, some with another
-- `nth_attempt`. An attempt has one slot for the end of its command, and one slot for the end of
-- each of its calls. Only one of the ends in a slot can belong to the attempt, so the others move
-- to attempts whose slot is free, i.e. not taken by an end that declares its number.
--
-- For example, both attempts had been issued when the first of them failed:
--     role   | created_at | end_slot | nth_attempt is | and becomes
--     issued | 09:00:00   |          |              1 | 1
--     issued | 09:00:01   |          |              2 | 2
--     done   | 09:00:05   |        0 |              2 | 1
--     done   | 09:00:25   |        0 |              2 | 2
--     1. find the free attempts of each slot
--     2. list the ends, each of them once
--     3. rank the ends of each slot that may move
--     4. give each of them a free attempt
create or replace function projector.assign_ends_by_slot(
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
            select * from unnest(assign_ends_by_slot.events)
        ),
        -- 1. `free_attempts` lists them in order.
        slot as (
            select nth_command, end_slot,
                   array(
                       select generate_series(1, last_attempt)
                       except
                       select unnest(taken_attempts)
                       order by 1
                   ) as free_attempts
            from   (
                       select   nth_command, end_slot,
                                array_agg(nth_attempt) filter (where declared_number is not null)
                                    as taken_attempts
                       from     event
                       where    end_slot is not null
                       group by nth_command, end_slot
                   ) as used_slot
            join   (
                       select   nth_command, max(nth_attempt) as last_attempt
                       from     unnest(assign_ends_by_slot.attempts)
                       group by nth_command
                   ) as command using (nth_command)
        ),
        -- 2. Several events may report the same end. If at least one of them declares a number, the
        -- end belongs to that attempt.
        call_end as (
            select   nth_command, end_slot, end_key, min(nth_attempt) as nth_attempt,
                     min(nth_attempt) filter (where declared_number is not null)
                         as declared_attempt
            from     event
            where    end_slot is not null
            group by nth_command, end_slot, end_key
        ),
        -- 3. For each end that declares no number:
        --     nth_free  where its present attempt, or the last free one before that, is in the list
        --               of free attempts
        --     rank      its position among these ends of its slot, from 1. Failures come first.
        --     surplus   how many of these ends are left over if each free attempt gets one
        ranked_end as (
            select nth_command, end_slot, end_key, nth_free,
                   row_number() over (
                       partition by nth_command, end_slot order by nth_free, end_key
                   ) as rank,
                   greatest(
                       count(*) over (partition by nth_command, end_slot) - number_free, 0
                   ) as surplus
            from   (
                       select nth_command, end_slot, end_key,
                              cardinality(free_attempts) as number_free,
                              greatest(width_bucket(nth_attempt, free_attempts), 1) as nth_free
                       from   call_end
                       join   slot using (nth_command, end_slot)
                       where  declared_attempt is null
                       and    free_attempts <> '{}'
                   ) as movable_end
        ),
        -- 4. `latest` is the last free attempt, up to the present one, that leaves a free attempt
        -- for each later end. So earlier ends move to earlier attempts. If `latest` is below the
        -- first one, `rank - surplus` counts up from the first one instead. For example, three ends
        -- are in the first of three free attempts:
        --     rank | nth_free | latest | rank - surplus | nth_free_given
        --        1 |        1 |     -1 |              1 |              1
        --        2 |        1 |      0 |              2 |              2
        --        3 |        1 |      1 |              3 |              3
        -- With a fourth end, surplus would be 1, and the ends would get 1, 1, 2, and 3. Surplus
        -- ends share the first attempt, because failures rank first. A second failure doesn't
        -- change how a failed attempt ended, but it would turn a completion in the last attempt
        -- into a failure (end_rank). If two ends are in the last of three free attempts, though,
        -- `latest` wins, and they stay near it:
        --     rank | nth_free | latest | rank - surplus | nth_free_given
        --        1 |        3 |      2 |              1 |              2
        --        2 |        3 |      3 |              2 |              3
        -- An end that's n ranks later allows at most its own nth_free - n. `latest` is the least of
        -- these, over this end (n is 0) and all later ones. For rank 1 above: least(3 - 0, 3 - 1).
        moved_end as (
            select nth_command, end_slot, end_key,
                   greatest(latest, rank - surplus, 1) as nth_free_given
            from   (
                       select *,
                              rank + min(nth_free - rank) over (
                                  partition by nth_command, end_slot order by rank desc
                                  rows unbounded preceding
                              ) as latest
                       from   ranked_end
                   ) as packed_end
        )
        select event_id, nth_command, role, declared_number, created_at, log_position, end_slot,
               end_key,
               case
                   when declared_number is not null then event.nth_attempt
                   else coalesce(
                            declared_attempt, free_attempts[nth_free_given], event.nth_attempt
                        )
               end
        from   event
        left join call_end using (nth_command, end_slot, end_key)
        left join moved_end using (nth_command, end_slot, end_key)
        left join slot using (nth_command, end_slot);
end
$$;
