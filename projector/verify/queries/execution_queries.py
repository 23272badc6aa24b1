"""Executions, and how many of them began and ended by hour."""

from typing import Final

from projector.verify.queries.comparison import Comparison, counter_comparison

EXECUTION_FACTS_COMPARISON: Final = Comparison(
    name="execution_facts",
    bounded_by="executions",
    keys=("execution_id",),
    self_test_column="events",
    actual="""
        select execution_id, events, first_at, begin_at, last_at, last_event_ranked, active_at,
               highest_attempts, playbook_ranked, catalog_id, parent_execution_id, completed,
               completed_at, failed, failed_at, cancelled, cancelled_at,
               -- Whether the row rightly notes what the roll-ups count it under. The next change of
               -- the execution subtracts that from them.
               (counted_playbook_ranked, counted_begun, counted_outcome, counted_ended)
                   is not distinct from (
                       playbook_ranked, to_hour(begin_at),
                       first_outcome(completed_at, failed_at, cancelled_at),
                       to_hour(least(completed_at, failed_at, cancelled_at))
                   ) as counted_as_it_is
        from   execution_facts
        where  execution_id = any($1::bigint[])
    """,
    expected="""
        select aggregated.*, true as counted_as_it_is
        from   derive_executions($1::bigint[]) as aggregated
    """,
)

EXECUTION_HOURS_COMPARISON: Final = counter_comparison(
    name="execution_hours",
    keys="hour playbook outcome",
    sums="executions",
    expected="""
        select   hour, playbook, outcome, count(*) as executions
        from     (
                     select to_hour(begin_at) as hour,
                            playbook_path(playbook_ranked) as playbook, 'BEGUN' as outcome
                     from   execution_facts
                     union all
                     select to_hour(least(completed_at, failed_at, cancelled_at)),
                            playbook_path(playbook_ranked),
                            first_outcome(completed_at, failed_at, cancelled_at)
                     from   execution_facts
                 ) as marked
        where    hour >= $1::timestamptz
        and      hour < $2::timestamptz
        group by hour, playbook, outcome
    """,
)
