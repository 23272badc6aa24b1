"""Executions, and how many of them began and ended by hour."""

from typing import Final

from projector.verify.queries.comparison import Comparison, counter

EXECUTIONS: Final = Comparison(
    name="execution_facts",
    bounds="executions",
    keys="execution_id",
    measure="events",
    actual="""
        select execution_id, events, archived, first_at, begin_at, last_at,
               last_event_ranked, active_at, highest_attempts, playbook_ranked, catalog_id,
               parent_execution_id, completed, completed_at, failed, failed_at, cancelled,
               cancelled_at,
               (counted_playbook_ranked, counted_begun, counted_outcome, counted_ended)
                   is not distinct from (
                       playbook_ranked, hour_of(begin_at),
                       outcome_of(completed_at, failed_at, cancelled_at),
                       hour_of(least(completed_at, failed_at, cancelled_at))
                   ) as counted_as_it_is,
               removed and events > archived as removed_too_early
        from   execution_facts
        where  execution_id between $1::bigint and $2::bigint
        and    ($5::bigint[] is null or execution_id = any($5::bigint[]))
        and    mod(abs(hashint8(execution_id)::bigint), $3::integer) = $4::integer
    """,
    expected="""
        select   execution_id, sum(events)::bigint as events, sum(archived)::bigint as archived,
                 min(created_at) as first_at, min(created_at) filter (where is_begin) as begin_at,
                 max(created_at) as last_at,
                 (
                     array_agg(to_jsonb(encode_time(created_at) || words)
                               order by created_at desc, words desc nulls last)
                 )[1] as last_event_ranked,
                 max(created_at) filter (where is_activity) as active_at,
                 max(attempts) as highest_attempts,
                 (
                     array_agg(to_jsonb(array[case when begins then '0' else '1' end,
                                              encode_time(created_at), name, version])
                               order by begins desc, created_at, name, version)
                         filter (where name is not null)
                 )[1] as playbook_ranked,
                 min(catalog_id) as catalog_id, min(parent_execution_id) as parent_execution_id,
                 coalesce(sum(ends) filter (where outcome = 'COMPLETED'), 0)::bigint as completed,
                 min(created_at) filter (where outcome = 'COMPLETED') as completed_at,
                 coalesce(sum(ends) filter (where outcome = 'FAILED'), 0)::bigint as failed,
                 min(created_at) filter (where outcome = 'FAILED') as failed_at,
                 coalesce(sum(ends) filter (where outcome = 'CANCELLED'), 0)::bigint as cancelled,
                 min(created_at) filter (where outcome = 'CANCELLED') as cancelled_at,
                 true as counted_as_it_is, false as removed_too_early
        from     (
                     select event.execution_id, 1 as events, 0 as archived, 1 as ends,
                            event.event_id, event.attempts, event.created_at, event.catalog_id,
                            event.parent_execution_id,
                            kind.role is not distinct from 'begins' as is_begin,
                            array[event.event_type, event.step, event.source_topic,
                                  event.source_partition::text] collate "C" as words,
                            coalesce(kind.role not in ('ends', 'ended'), true)
                                and left(event.event_type, 8) <> 'workflow' as is_activity,
                            case
                                when kind.role = 'ends' then
                                    case
                                        when event.status in ('COMPLETED', 'FAILED', 'CANCELLED')
                                        then event.status
                                        else kind.outcome
                                    end
                            end as outcome,
                            path.path is not null as begins,
                            left(coalesce(path.path, nullif(life.step, '')), 200) collate "C"
                                as name,
                            coalesce(left(path.version, 100), '') collate "C" as version
                     from   normalizer.events as event
                     left join event_kinds as kind on kind.event_type = event.event_type
                     left join lateral (
                         -- As the client sent it, or below the result of a server's row.
                         select   said.context ->> 'path' as path,
                                  said.context ->> 'version' as version
                         from     (
                                      values (1, event.context), (2, event.result -> 'context')
                                  ) as said (nth, context)
                         where    kind.role = 'begins'
                         and      jsonb_typeof(said.context -> 'path') = 'string'
                         and      said.context ->> 'path' <> ''
                         order by said.nth
                         limit    1
                     ) as path on true
                     left join lateral (
                         select event.step where kind.subject = 'execution'
                     ) as life on true
                     where  event.execution_id between $1::bigint and $2::bigint
                     and    ($5::bigint[] is null or event.execution_id = any($5::bigint[]))
                     and    mod(abs(hashint8(event.execution_id)::bigint), $3::integer)
                            = $4::integer
                     union all
                     -- Archived values, one row for each of them.
                     select kept.execution_id, part.events, part.events, part.ends, null,
                            part.attempts, part.created_at, part.catalog_id,
                            part.parent_execution_id, part.is_begin, part.words collate "C",
                            part.is_activity, part.outcome, part.playbook[1] = '0',
                            part.playbook[3] collate "C", part.playbook[4] collate "C"
                     from   archived_executions as kept
                     cross join lateral (
                         values (events, 0, first_at, null, highest_attempts, catalog_id,
                                 parent_execution_id, false, false, null, null),
                                (0, 0, begin_at, null, null, null, null, true, false, null, null),
                                (0, 0, last_at, last_event_ranked[2:], null, null, null, false,
                                 false, null, null),
                                (0, 0, active_at, null, null, null, null, false, true, null,
                                 null),
                                (0, 0, ranked_time(playbook_ranked[2]), null, null, null,
                                 null, false, false, null, playbook_ranked),
                                (0, completed, completed_at, null, null, null, null, false,
                                 false, 'COMPLETED', null),
                                (0, failed, failed_at, null, null, null, null, false, false,
                                 'FAILED', null),
                                (0, cancelled, cancelled_at, null, null, null, null, false,
                                 false, 'CANCELLED', null)
                     ) as part (
                         events, ends, created_at, words, attempts, catalog_id,
                         parent_execution_id, is_begin, is_activity, outcome, playbook
                     )
                     where  part.created_at is not null
                     and    kept.execution_id between $1::bigint and $2::bigint
                     and    ($5::bigint[] is null or kept.execution_id = any($5::bigint[]))
                     and    mod(abs(hashint8(kept.execution_id)::bigint), $3::integer)
                            = $4::integer
                 ) as reported
        group by execution_id
    """,
    archived="""
        select count(*)
        from   archived_executions
        where  execution_id between $1::bigint and $2::bigint
        and    ($3::bigint[] is null or execution_id = any($3::bigint[]))
    """,
)

EXECUTION_HOURS: Final = counter(
    name="execution_hours",
    bounds="begun",
    keys="hour playbook outcome",
    sums="executions",
    shared_by="playbook",
    expected="""
        select   hour, playbook, outcome, sum(sign)::bigint as executions
        from     (
                     select 1 as sign, hour_of(begin_at) as hour,
                            playbook_of(playbook_ranked) as playbook, 'BEGUN' as outcome
                     from   execution_facts
                     union all
                     select 1, hour_of(least(completed_at, failed_at, cancelled_at)),
                            playbook_of(playbook_ranked),
                            outcome_of(completed_at, failed_at, cancelled_at)
                     from   execution_facts
                     union all
                     select -1, counted_begun, playbook_of(counted_playbook_ranked), 'BEGUN'
                     from   archived_executions
                     union all
                     select -1, counted_ended, playbook_of(counted_playbook_ranked), counted_outcome
                     from   archived_executions
                 ) as marked
        where    hour >= $1::timestamptz
        and      hour < $2::timestamptz
        and      mod(abs(hashtext(playbook)::bigint), $3::integer) = $4::integer
        group by hour, playbook, outcome
        having   sum(sign) <> 0
    """,
    reports_archived=True,
)
