"""Mechanisms that promises rest on, each with a change of the source that takes it away.

A change is an exact text that occurs once in its file, and what stands there instead. `fails` is
in every report of the test's failure. A promise is a heading of docs/guarantees.md.
"""

from typing import Final

import msgspec


class SourceChange(msgspec.Struct, frozen=True):
    """One exact replacement in one file."""

    path: str
    old: str
    new: str


class Mutant(msgspec.Struct, frozen=True, kw_only=True):
    """A removed mechanism, the promise that breaks, and the test that sees it."""

    name: str
    promise: str
    path: str
    old: str
    new: str
    more: tuple[SourceChange, ...] = ()
    test: str
    fails: str

    @property
    def changes(self) -> tuple[SourceChange, ...]:
        """All of its replacements."""
        return (SourceChange(self.path, self.old, self.new), *self.more)


STAY_GREEN: Final = (
    "test_every_column_of_a_row_equals_what_was_given",
    "test_a_rows_provenance_is_its_record_and_its_batch",
    "test_json_comes_back_with_the_value_it_had_however_it_was_spelt",
    "test_new_events_are_stored_sorted_by_id_with_one_question",
    "test_a_batch_that_goes_in_is_written_once",
)
"""Tests that no mutant may break: each takes one mechanism away, and leaves the rest at work."""

_STORE: Final = "normalizer/store/store.py"
_POSITIONS: Final = "normalizer/store/source_positions.py"

MUTANTS: Final = (
    Mutant(
        name="the epoch of a claim is not compared",
        promise="One writer a partition",
        path=_POSITIONS,
        old='if position["epoch"] == epoch:',
        new="if True:",
        test="test_a_process_that_lost_the_partition_is_fenced",
        fails="DID NOT RAISE",
    ),
    Mutant(
        name="a claim does not raise the epoch",
        promise="One writer a partition",
        path="normalizer/store/claims.py",
        old="set    owner = $4::text, epoch = epoch + 1,",
        new="set    owner = $4::text, epoch = epoch,",
        test="test_a_claim_waits_for_the_zombies_batch_in_flight_and_fences_its_next",
        fails="assert (claim.epoch, claim.next_offset) == (2, 1)",
    ),
    Mutant(
        name="the position moves after the commit of the rows",
        promise="Position and rows together",
        path="normalizer/store/write_transaction.py",
        old="        await self._positions.move(connection, moves)\n",
        new="        self._positions.move_later = lambda it: self._positions.move(it, moves)\n",
        more=(
            SourceChange(
                _STORE,
                "                match result:\n",
                "                if isinstance(result, CommittedBatch):\n"
                "                    moved = self._transaction._positions.move_later\n"
                "                    await self._session.run_in_transaction(moved)\n"
                "                match result:\n",
            ),
        ),
        test="test_a_crash_before_the_commit_leaves_neither_rows_nor_position",
        fails='assert await count(connection, "normalizer.events") == 0',
    ),
    Mutant(
        name="a commit whose answer was lost is not recognised",
        promise="Counted once",
        path=_POSITIONS,
        old='    if all(positions[part.key]["next_offset"] == part.next_offset '
        "for part in parts):\n",
        new="    if not parts:\n",
        test="test_a_commit_that_took_effect_while_its_answer_was_lost_is_not_done_again",
        fails="PositionMovedError",
    ),
    Mutant(
        name="outcomes need not add up",
        promise="Counted once",
        path="migrations/0001_create_normalizer.sql",
        old="outcomes = stored + duplicate + merged + quarantined + ignored",
        new="outcomes >= 0",
        test="test_a_position_that_does_not_balance_cannot_be_written",
        fails="DID NOT RAISE",
    ),
    Mutant(
        name="records below the position are not looked up",
        promise="One record, taken once",
        path="normalizer/core/identity/reconcile.py",
        old="or (dedup_horizons and "
        "is_below_horizon(source_coordinates(events[number]), dedup_horizons))",
        new="",
        test="test_a_position_set_back_by_hand_reads_no_record_twice",
        fails="assert again.duplicate == again.outcomes",
    ),
    Mutant(
        name="merging goes by the greater value, however it was found",
        promise="One event, one row",
        path="normalizer/core/identity/merge.py",
        old="wins = (ranks[0], a) > (ranks[1], b)",
        new="wins = a > b",
        test="test_more_evidence_wins_whatever_the_value",
        fails="assert both_ways(a, b, column) == strong",
    ),
    Mutant(
        name="two steps of one id are one event",
        promise="Events that share an id",
        path="normalizer/core/identity/collisions.py",
        old="return 2 if row.step == report.step or report.step in read_steps(row) else 0",
        new="return 2",
        test="test_two_events_with_one_id_are_two_rows",
        fails='assert outcomes == ["stored", "stored"]',
    ),
    Mutant(
        name="an ambiguous report is not marked",
        promise="Events that share an id",
        path="normalizer/core/identity/merge_flags.py",
        old="if flags & HAS_RIVAL_FLAG and missing_name_flags(row)",
        new="if flags < 0",
        test="test_a_report_that_may_be_of_two_events_is_marked_in_every_order",
        fails="assert marked",
    ),
    Mutant(
        name="a second transaction reuses a plan although it depends on the first one's locks",
        promise="Events that share an id",
        path="normalizer/store/batch_plan.py",
        old="            and self._new_rows_have_own_ids()\n",
        new="",
        test="test_a_holder_deleted_between_two_transactions_leaves_its_id_to_the_sibling",
        fails="assert (again.stored, again.duplicate + again.merged) == (0, 1)",
    ),
    Mutant(
        name="counters do not follow rows that change",
        promise="Views are what the events say",
        path="migrations/0008_create_triggers.sql",
        old="create trigger project_3_counters_updated\n"
        "    after update on normalizer.events\n"
        "    referencing old table as before new table as after\n"
        "    for each statement execute function projector.project_counters();\n",
        new="",
        test="test_the_counter_moves_with_rows_inserted_and_with_rows_changed",
        fails="assert await minutes(connection) ==",
    ),
    Mutant(
        name="events without projections are not noted as divergent",
        promise="A repair ends the same",
        path="migrations/0008_create_triggers.sql",
        old="create trigger project_0_off_inserted\n"
        "    after insert on normalizer.events\n"
        "    referencing new table as after\n"
        "    for each statement when (current_setting('projector.off', true) = 'on')\n"
        "    execute function projector.project_divergences();\n",
        new="",
        test="test_off_holds_for_its_transaction_only",
        fails="assert await connection.fetchval(noted) == 1",
    ),
    Mutant(
        name="a comparison sees what is archived",
        promise="A repair ends the same",
        path="projector/verify/queries/comparison.py",
        old="        and      shard >= 0\n",
        new="",
        test="test_repairing_counters_counts_nothing_twice_that_retention_has_taken",
        fails="assert await connection.fetchval(total) == 20",
    ),
    Mutant(
        name="any match ends a verdict, whatever it compared",
        promise="A verdict means what it says",
        path="projector/verify/verify.py",
        old="covers_all = self._scope.covers_everything",
        new="covers_all = True",
        test="test_a_sample_that_matches_elsewhere_takes_no_verdict_back",
        fails='assert await agreement(connection, "event_hours") == ("divergent", 1)',
    ),
    Mutant(
        name="planted differences may go unnoticed",
        promise="A verdict means what it says",
        path="projector/verify/row_comparison.py",
        old="!= (test.actual_only_count, test.expected_only_count):",
        new="== (-1, -1):",
        test="test_a_comparison_that_notices_nothing_is_not_believed",
        fails="DID NOT RAISE",
    ),
    Mutant(
        name="any SQLSTATE is the record's fault",
        promise="An outage fills no quarantine",
        path="normalizer/store/sqlstate.py",
        old="    if code[:2] in _OUTAGE_CLASSES:\n        return ErrorCause.TRANSIENT\n",
        new="    if code[:2] in _OUTAGE_CLASSES:\n        return ErrorCause.RECORD\n",
        test="test_an_error_of_the_moment_writes_nothing_and_blames_nobody",
        fails="DID NOT RAISE",
    ),
    Mutant(
        name="a record may be of any size, written out",
        promise="One bad record costs one record",
        path="normalizer/core/decode/record_limits.py",
        old="MAX_JSONB_TEXT_BYTES: Final = 16 << 20",
        new="MAX_JSONB_TEXT_BYTES: Final = 16 << 40",
        test="test_a_record_above_the_size_limits_is_rejected_whole",
        fails="assert isinstance(rejected, Rejected)",
    ),
    Mutant(
        name="the horizon of retention is not looked at",
        promise="Retention counts nothing twice",
        path="normalizer/store/outcomes_by_kind.py",
        old="if retention_horizon is not None and is_expired(record, outcome, retention_horizon):",
        new="if retention_horizon is not None and record.offset < 0:",
        test="test_records_before_the_horizon_are_ignored_with_any_id",
        fails="assert (again.stored, again.merged, again.duplicate, again.ignored)",
    ),
    Mutant(
        name="the horizon of retention may fall",
        promise="Retention counts nothing twice",
        path="projector/maintenance/event_retention.py",
        old="    set    expired_before = $1::timestamptz\n"
        "    where  expired_before < $1::timestamptz\n",
        new="    set    expired_before = $1::timestamptz\n",
        test="test_the_horizon_never_falls",
        fails="assert await connection.fetchval(horizon) == raised",
    ),
    Mutant(
        name="an execution goes although somebody has locked one of its rows",
        promise="Retention counts nothing twice",
        path="projector/maintenance/event_retention.py",
        old="           counted.events = known.events\n           and is_old and",
        new="           is_old and",
        more=(
            SourceChange(
                "migrations/functions/delete_executions.sql",
                "        where  execution_id = any(delete_executions.execution_ids)\n",
                "        where  event_id in (select event_id from normalizer.events "
                "where execution_id = any(delete_executions.execution_ids) "
                "for update skip locked)\n",
            ),
        ),
        test="test_an_execution_that_somebody_has_locked_is_left_and_holds_up_no_other",
        fails='assert await connection.fetchval("select count(*) from normalizer.events") == 4',
    ),
    Mutant(
        name="executions that share an id leave one without the other",
        promise="Retention counts nothing twice",
        path="projector/maintenance/expired_executions.py",
        old="        wanted = ties.keys() - known",
        new="        wanted, ties = set(), {}",
        more=(
            SourceChange(
                "projector/maintenance/event_retention.py",
                "        may_go = whole - new_ties\n",
                "        may_go = whole or new_ties\n",
            ),
        ),
        test="test_executions_that_share_an_id_leave_together",
        fails='assert await connection.fetchval("select count(*) from normalizer.events") == 2',
    ),
    Mutant(
        name="what leaves is not counted as archived",
        promise="Retention counts nothing twice",
        path="migrations/functions/remove_emptied_executions.sql",
        old="    cross join (values (take_shard(), -1), ((-1)::smallint, 1)) as way",
        new="    cross join (values (take_shard(), -1)) as way",
        test="test_a_silent_execution_leaves_whole_and_every_count_stays",
        fails="assert differences(without_executions(after), without_executions(before)) == {}",
    ),
    Mutant(
        name="the ledger does not count what retention took",
        promise="Retention counts nothing twice",
        path="migrations/functions/delete_executions.sql",
        old="        do update set events = known.events + excluded.events\n",
        new="        do update set events = known.events\n",
        more=(
            SourceChange(
                "migrations/functions/delete_executions.sql",
                "                 coalesce(written.run, 0), count(*)\n",
                "                 coalesce(written.run, 0), 0\n",
            ),
        ),
        test="test_the_ledger_explains_what_retention_took_of_a_job",
        fails="assert await ledger_mistakes(database) == []",
    ),
    Mutant(
        name="the content of the last record that was read is not compared",
        promise="Another log is not taken for this one",
        path="normalizer/core/batch.py",
        old='return zlib.crc32((record.key or b"") + b"\\0" + (record.value or b""))',
        new="return len(record.topic or str())",
        test="test_the_crc_tells_key_from_value",
        fails='assert record_crc(raw_record(key=b"a", value=b"b")) ==',
    ),
    Mutant(
        name="a function acts for its owner without pg_temp on its path",
        promise="A reader harms nobody",
        path="migrations/functions/delete_executions.sql",
        old="returns bigint\n    language plpgsql volatile security definer\n"
        "    set search_path = pg_catalog, projector, pg_temp\n    set jit = off\n"
        "as $$\ndeclare\n    del",
        new="returns bigint\n    language plpgsql volatile security definer\n"
        "    set search_path = pg_catalog, projector\n    set jit = off\n"
        "as $$\ndeclare\n    del",
        test="test_security_definer_functions_search_temporary_schemas_last",
        fails='assert [path for path in paths if "pg_temp" not in path] == []',
    ),
    Mutant(
        name="the protocol in force is not looked at",
        promise="Two versions never write at once",
        path="normalizer/store/claim_checks.py",
        old="if in_force != _PROTOCOL_VERSION:",
        new="if in_force is None:",
        test="test_a_raised_protocol_stops_who_claims_and_fences_who_has",
        fails="DID NOT RAISE",
    ),
    Mutant(
        name="a forgotten execution is stored like any other",
        promise="Secrets and erasure",
        path="normalizer/store/outcomes_by_kind.py",
        old="case event if forgotten and event.execution_id in forgotten:",
        new="case event if event.execution_id < 0:",
        test="test_no_replay_brings_it_back",
        fails="assert await where(connection, MARK) == set()",
    ),
    Mutant(
        name="what is under a secret key is kept",
        promise="Secrets and erasure",
        path="normalizer/core/redaction/secret_names.py",
        old="return SecrecyLevel.CONTENT if _CONTENT.search(rest) else SecrecyLevel.NOTHING",
        new="return SecrecyLevel.NOTHING",
        test="test_no_secret_of_the_corpus_is_kept",
        fails="assert not kept",
    ),
    Mutant(
        name="a producer of the relay has an id of its own",
        promise="The relay sends each event once",
        path="normalizer/kafka/transactional_producer.py",
        old='transactional_id=f"{self._group_id}.',
        new='transactional_id=f"{self._group_id}.{id(self)}.',
        test="test_a_zombie_is_fenced_and_its_open_transaction_is_not_seen",
        fails="DID NOT RAISE",
    ),
    Mutant(
        name="the relay reads changes beside transactions that still run",
        promise="The relay from PostgreSQL passes over nothing",
        path="normalizer/relay/event_pages.py",
        old="and      transaction_id < pg_snapshot_xmin(pg_current_snapshot())",
        new="",
        test="test_no_commit_slips_under_what_was_sent",
        fails="assert [event_id for event_id, *_ in await sent(settings)] == [1]",
    ),
)
