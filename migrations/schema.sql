-- The schema that the migrations in this folder create, as pg_dump shows it. For reading only: the
-- bodies of functions are in the migrations.
-- Generated: python -m tests.support.schema_dump
--
-- Tables, each at `CREATE TABLE name`:
--     normalizer.events
--     migrations.applied
--     normalizer.archived_rows
--     normalizer.assigned_ids
--     normalizer.dedup_horizon
--     normalizer.drift_findings
--     normalizer.event_changes
--     normalizer.event_relay
--     normalizer.forgotten_executions
--     normalizer.gaps
--     normalizer.job_batches
--     normalizer.job_parts
--     normalizer.job_refusals
--     normalizer.jobs
--     normalizer.layout
--     normalizer.merged_records
--     normalizer.position_changes
--     normalizer.quarantine
--     normalizer.quarantine_raw
--     normalizer.redrive_attempts
--     normalizer.retention_horizon
--     normalizer.snowflake_lock
--     normalizer.source_heartbeats
--     normalizer.source_positions
--     normalizer.source_topics
--     projector.after
--     projector.divergences
--     projector.verifications
--     projector.arrival_hours
--     projector.event_hours
--     projector.event_minutes
--     projector.call_facts
--     projector.execution_facts
--     projector.before
--     projector.call_hours
--     projector.call_times
--     projector.event_kinds
--     projector.coercion_hours
--     projector.error_hours
--     projector.execution_hours
--     projector.maintenance_state
--     projector.quarantine_hours
--     projector.retry_minutes
--     projector.shards
--     projector.worker_hours


CREATE SCHEMA migrations;

CREATE SCHEMA normalizer;

CREATE SCHEMA projector;

CREATE TYPE projector.call_change AS (
	execution_id bigint,
	command_id text COLLATE pg_catalog."C",
	begun_at timestamp with time zone,
	issued_at timestamp with time zone,
	claimed_at timestamp with time zone,
	started_at timestamp with time zone,
	outcome_ranked text COLLATE pg_catalog."C",
	duration_ranked text COLLATE pg_catalog."C",
	error_ranked text COLLATE pg_catalog."C",
	step_ranked text COLLATE pg_catalog."C",
	worker_ranked text COLLATE pg_catalog."C",
	max_attempts_ranked text COLLATE pg_catalog."C",
	iteration integer,
	is_numbered boolean,
	is_changed boolean
);

CREATE TYPE projector.call_command AS (
	execution_id bigint,
	command_id text
);

CREATE TYPE projector.call_count AS (
	sign integer,
	execution_id bigint,
	command_id text,
	attempts integer,
	playbook text,
	step text,
	begun_at timestamp with time zone,
	finished_at timestamp with time zone,
	status text,
	worker_id text,
	error text,
	duration_us bigint,
	queue_us bigint,
	backoff_us bigint,
	exhausted boolean,
	inferred boolean
);

CREATE TYPE projector.call_event AS (
	event_id bigint,
	execution_id bigint,
	command_id text COLLATE pg_catalog."C",
	event_class text COLLATE pg_catalog."C",
	role text COLLATE pg_catalog."C",
	reporter text COLLATE pg_catalog."C",
	number integer,
	created_at timestamp with time zone,
	outcome_ranked text COLLATE pg_catalog."C",
	duration_ranked text COLLATE pg_catalog."C",
	error_ranked text COLLATE pg_catalog."C",
	step_ranked text COLLATE pg_catalog."C",
	worker_ranked text COLLATE pg_catalog."C",
	max_attempts_ranked text COLLATE pg_catalog."C",
	iteration integer,
	call_index integer,
	log text COLLATE pg_catalog."C",
	in_log bigint[]
);

CREATE TYPE projector.call_failure AS (
	execution_id bigint,
	command_id text,
	attempts integer,
	step text,
	iteration integer,
	finished_at timestamp with time zone
);

CREATE TYPE projector.call_id AS (
	execution_id bigint,
	command_id text,
	attempts integer
);

CREATE TYPE projector.execution_change AS (
	execution_id bigint,
	events bigint,
	first_at timestamp with time zone,
	begin_at timestamp with time zone,
	last_at timestamp with time zone,
	last_event_ranked text[] COLLATE pg_catalog."C",
	active_at timestamp with time zone,
	highest_attempts integer,
	playbook_ranked text[] COLLATE pg_catalog."C",
	catalog_id bigint,
	parent_execution_id bigint,
	completed bigint,
	completed_at timestamp with time zone,
	failed bigint,
	failed_at timestamp with time zone,
	cancelled bigint,
	cancelled_at timestamp with time zone
);

CREATE TYPE projector.execution_move AS (
	execution_id bigint,
	was_playbook_ranked text[],
	was_begun timestamp with time zone,
	was_outcome text,
	was_ended timestamp with time zone,
	playbook_ranked text[],
	begun timestamp with time zone,
	outcome text,
	ended timestamp with time zone
);

CREATE TYPE projector.execution_report AS (
	sign integer,
	execution_id bigint,
	attempts integer,
	created_at timestamp with time zone,
	catalog_id bigint,
	parent_execution_id bigint,
	last_event_ranked text[] COLLATE pg_catalog."C",
	begin_at timestamp with time zone,
	active_at timestamp with time zone,
	playbook_ranked text[] COLLATE pg_catalog."C",
	outcome text
);

CREATE TYPE projector.located_event AS (
	event_id bigint,
	execution_id bigint,
	event_type text,
	step text,
	status text,
	created_at timestamp with time zone,
	source_index integer,
	merged boolean
);

CREATE FUNCTION normalizer.drop_source_heartbeats() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'normalizer', 'pg_temp'
    ; -- body: 0001_create_normalizer.sql

CREATE FUNCTION normalizer.gen_snowflake() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    ; -- body: 0001_create_normalizer.sql
COMMENT ON FUNCTION normalizer.gen_snowflake() IS 'A new event id in the application''s layout. Used if nobody else provides one.';

CREATE FUNCTION normalizer.keep_dedup_horizon() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'normalizer', 'pg_temp'
    ; -- body: 0001_create_normalizer.sql

CREATE FUNCTION normalizer.note_event_changes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'normalizer', 'pg_temp'
    ; -- body: 0017_create_relay.sql
COMMENT ON FUNCTION normalizer.note_event_changes() IS 'Notes the events that a statement inserted or updated, while a relay is registered.';

CREATE FUNCTION normalizer.shared_id(coercions jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN jsonb_path_query_first(coercions, '$[*]?(@."rule" == "event_id_conflict")."from"'::jsonpath);

CREATE FUNCTION normalizer.snowflake_at(unix_ms bigint) RETURNS bigint
    LANGUAGE plpgsql
    ; -- body: 0001_create_normalizer.sql

CREATE FUNCTION projector.aggregate_calls(commands projector.call_command[]) RETURNS TABLE(execution_id bigint, command_id text, attempts integer, begun_at timestamp with time zone, issued_at timestamp with time zone, claimed_at timestamp with time zone, started_at timestamp with time zone, outcome_ranked text, duration_ranked text, error_ranked text, step_ranked text, worker_ranked text, max_attempts_ranked text, iteration integer, is_numbered boolean, may_be_retried boolean)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.aggregate_executions(execution_ids bigint[]) RETURNS SETOF projector.execution_change
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0004_create_execution_projections.sql

CREATE FUNCTION projector.archive_executions(execution_ids bigint[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    SET jit TO 'off'
    ; -- body: 0009_create_retention.sql

CREATE FUNCTION projector.bucket_of(microseconds bigint) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (CASE WHEN (microseconds > 0) THEN floor((((8)::double precision * ln((microseconds)::double precision)) / ln((2)::double precision))) ELSE ('-1'::integer)::double precision END)::smallint;

CREATE FUNCTION projector.call_attribution(outcome_ranked text, is_numbered boolean, may_be_retried boolean) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN COALESCE((substr(outcome_ranked, 21) = '0'::text), is_numbered) THEN 'declared'::text WHEN may_be_retried THEN 'inferred'::text ELSE 'only'::text END;

CREATE FUNCTION projector.call_counts(sign integer, ids projector.call_id[]) RETURNS SETOF projector.call_count
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0005_create_call_projections.sql

CREATE FUNCTION projector.decode_bigint(encoded text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (translate(encoded, '0123456789abcdef'::text, ''::text) = ''::text) THEN ((('x'::text || encoded))::bit(64))::bigint ELSE NULL::bigint END;

CREATE FUNCTION projector.call_duration_us(duration_ranked text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN projector.decode_bigint(substr(duration_ranked, 19));

CREATE FUNCTION projector.call_error(error_ranked text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN substr(error_ranked, 21);

CREATE FUNCTION projector.call_events_by_attempt(commands projector.call_command[]) RETURNS TABLE(event_id bigint, execution_id bigint, command_id text, event_class text, role text, reporter text, number integer, created_at timestamp with time zone, outcome_ranked text, duration_ranked text, error_ranked text, step_ranked text, worker_ranked text, max_attempts_ranked text, iteration integer, attempts integer, may_be_retried boolean)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    SET enable_hashjoin TO 'on'
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.call_failed(outcome_ranked text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ("left"(outcome_ranked, 1) <> '2'::text);

CREATE FUNCTION projector.call_finished_at(outcome_ranked text) RETURNS timestamp with time zone
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN ((projector.decode_bigint(substr(outcome_ranked, 4, 16)) >= '-63082281600000000'::bigint) AND (projector.decode_bigint(substr(outcome_ranked, 4, 16)) <= '252455615999999999'::bigint)) THEN (('2000-01-01 00:00:00+00'::timestamp with time zone + (((projector.decode_bigint(substr(outcome_ranked, 4, 16)) / 1000000))::double precision * '00:00:01'::interval)) + (((projector.decode_bigint(substr(outcome_ranked, 4, 16)) % (1000000)::bigint))::double precision * '00:00:00.000001'::interval)) ELSE NULL::timestamp with time zone END;

CREATE FUNCTION projector.call_index_of(context jsonb, result jsonb) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN COALESCE(("substring"(((context -> 'call_index'::text))::text, '^[0-9]{1,9}$'::text))::integer, ("substring"((((result -> 'context'::text) -> 'call_index'::text))::text, '^[0-9]{1,9}$'::text))::integer, 0);

CREATE FUNCTION projector.call_outcome(outcome_ranked text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE substr(outcome_ranked, 20, 1) WHEN '0'::text THEN 'FAILED'::text WHEN '1'::text THEN 'ERROR'::text WHEN '2'::text THEN 'CANCELLED'::text WHEN '3'::text THEN 'COMPLETED'::text ELSE NULL::text END;

CREATE FUNCTION projector.compact_shards(counter_table text, time_column text, since timestamp with time zone, until timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    SET jit TO 'off'
    ; -- body: 0009_create_retention.sql

CREATE FUNCTION projector.count_calls(counts projector.call_count[], into_shard smallint DEFAULT NULL::smallint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0005_create_call_projections.sql

CREATE FUNCTION projector.count_changed_calls(counts projector.call_count[], touched projector.call_id[], linked projector.call_id[], old_failures projector.call_failure[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.count_executions(moved projector.execution_move[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0004_create_execution_projections.sql

CREATE FUNCTION projector.doubtful_executions(reports projector.execution_report[]) RETURNS bigint[]
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0004_create_execution_projections.sql

CREATE FUNCTION projector.encode_bigint(number bigint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN encode(int8send(number), 'hex'::text);

CREATE FUNCTION projector.encode_time(moment timestamp with time zone) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (CASE WHEN (moment < '2000-01-01 00:00:00+00'::timestamp with time zone) THEN '0'::text ELSE '1'::text END || encode(timestamptz_send(moment), 'hex'::text));

CREATE FUNCTION projector.end_rank(reporter text, moment text, outcome text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE outcome WHEN 'COMPLETED'::text THEN ((('2'::text || reporter) || moment) || '3'::text) WHEN 'CANCELLED'::text THEN ((('1'::text || reporter) || moment) || '2'::text) WHEN 'ERROR'::text THEN ((('0'::text || reporter) || moment) || '1'::text) ELSE ((('0'::text || reporter) || moment) || '0'::text) END;

CREATE FUNCTION projector.error_class_of(error text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN btrim("left"(regexp_replace(regexp_replace(replace(regexp_replace(regexp_replace(regexp_replace(translate("left"(error, 400), chr(1), ' '::text), '"[^"]*(?:"|$)|(?<![0-9A-Za-z])[bru]?''(?:[^'']|''(?=[0-9A-Za-z]))*(?:''|$)'::text, '?'::text, 'g'::text), '[^\x01-\x20@"<>()\[\]{},;:=#|/\\?]+@(?:[0-9a-z-]+[.])+[a-z]{2,}|(\m(?:http(?:/[0-9](?:[.][0-9])?)?|status[ _]?(?:code)?|code|error|exit|exited with|errno|signal)[ :=#(]{0,3}[0-9]{1,3}(?![0-9a-z_])|\m[45][0-9]{2}(?= (?:bad|conflict|forbidden|gateway|gone|internal|method|not|payload|precondition|request|service|too|unauthorized|unprocessable)\M))|[0-9a-z]*[0-9][0-9a-z]*|(?<![0-9a-z])[a-f]{8,}(?![0-9a-z])'::text, ('\1'::text || chr(1)), 'gi'::text), ('([0-9a-z])'::text || chr(1)), '\1'::text, 'gi'::text), chr(1), '#'::text), '#(?:[-._:/]?#)*(?:-[b-df-hj-np-tv-xz]{5}\M)?'::text, '#'::text, 'g'::text), '[ \t-\r]+'::text, ' '::text, 'g'::text), 120));

CREATE SEQUENCE normalizer.batch_id
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
COMMENT ON SEQUENCE normalizer.batch_id IS 'Private: the numbers of the transactions that write events. A rollback leaves one out.';


SET default_tablespace = '';

SET default_table_access_method = heap;

CREATE TABLE normalizer.events (
    event_id bigint DEFAULT normalizer.gen_snowflake() NOT NULL,
    execution_id bigint NOT NULL,
    event_type text NOT NULL,
    step text DEFAULT ''::text NOT NULL,
    status text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    max_attempts integer,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    worker_id text,
    command_id text,
    iteration integer,
    node_type text,
    catalog_id bigint,
    parent_event_id bigint,
    parent_execution_id bigint,
    duration double precision,
    error text,
    context jsonb,
    result jsonb,
    meta jsonb DEFAULT '{"attempts": 0}'::jsonb NOT NULL,
    extra jsonb,
    coercions jsonb,
    evidence smallint DEFAULT 212 NOT NULL,
    shape text DEFAULT 'sql'::text NOT NULL,
    normalizer_version integer DEFAULT 0 NOT NULL,
    source_topic text DEFAULT 'sql'::text NOT NULL,
    source_incarnation integer DEFAULT 0 NOT NULL,
    source_partition integer DEFAULT 0 NOT NULL,
    source_offset bigint DEFAULT 0 NOT NULL,
    source_index integer DEFAULT 0 NOT NULL,
    headers jsonb,
    trace_id text,
    recorded_at timestamp with time zone,
    merge_flags smallint DEFAULT 0 NOT NULL,
    batch_id bigint DEFAULT nextval('normalizer.batch_id'::regclass) NOT NULL,
    ingested_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT events_attempts_from_zero CHECK (((attempts >= 0) AND (attempts <= 32767))),
    CONSTRAINT events_call_done_outcome CHECK (((event_type <> ALL (ARRAY['call.done'::text, 'action_done'::text, 'call_done'::text])) OR (status = ANY (ARRAY['COMPLETED'::text, 'FAILED'::text, 'ERROR'::text, 'CANCELLED'::text])))),
    CONSTRAINT events_duration_possible CHECK (((duration >= (0)::double precision) AND (duration <= (315360000)::double precision))),
    CONSTRAINT events_execution_id_above_zero CHECK ((execution_id > 0)),
    CONSTRAINT events_json_forms CHECK (((jsonb_typeof(meta) = 'object'::text) AND (jsonb_typeof(extra) = 'object'::text) AND (jsonb_typeof(headers) = 'object'::text) AND (jsonb_typeof(coercions) = 'array'::text))),
    CONSTRAINT events_times_in_calendar CHECK (((created_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (created_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (recorded_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (recorded_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (ingested_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (ingested_at < '10000-01-01 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT events_words_bounded CHECK ((((octet_length(event_type) >= 1) AND (octet_length(event_type) <= 200)) AND ((octet_length(status) >= 1) AND (octet_length(status) <= 100)) AND (octet_length(step) <= 1500) AND (octet_length(worker_id) <= 1500) AND (octet_length(command_id) <= 1500) AND (octet_length(shape) <= 100) AND (octet_length(source_topic) <= 1500)))
)
WITH (autovacuum_vacuum_insert_threshold='5000', autovacuum_vacuum_insert_scale_factor='0.01');
COMMENT ON TABLE normalizer.events IS 'The log of canonical events: one row for each event, whatever wire shape brought it. The columns are the fields of the canonical envelope (docs/spec/envelope.md).';
COMMENT ON COLUMN normalizer.events.event_id IS 'Id of the event.';
COMMENT ON COLUMN normalizer.events.execution_id IS 'Id of the execution.';
COMMENT ON COLUMN normalizer.events.event_type IS 'Type of the event, in the producer''s spelling.';
COMMENT ON COLUMN normalizer.events.step IS 'Name of the step; empty if there is none.';
COMMENT ON COLUMN normalizer.events.status IS 'Canonical status, in capitals.';
COMMENT ON COLUMN normalizer.events.attempts IS 'Number of attempts before this one; 0 is the first attempt.';
COMMENT ON COLUMN normalizer.events.max_attempts IS 'Number of attempts that are allowed in all; null if not declared.';
COMMENT ON COLUMN normalizer.events.created_at IS 'When the event happened, by the producer''s clock.';
COMMENT ON COLUMN normalizer.events.worker_id IS 'Id of the worker.';
COMMENT ON COLUMN normalizer.events.command_id IS 'Id of the command; null if the event names none.';
COMMENT ON COLUMN normalizer.events.iteration IS 'Index in a loop, from 0; null outside of loops.';
COMMENT ON COLUMN normalizer.events.node_type IS 'Kind of step, in the producer''s words.';
COMMENT ON COLUMN normalizer.events.catalog_id IS 'Id of the playbook in the catalog.';
COMMENT ON COLUMN normalizer.events.parent_event_id IS 'Id of the event that caused this one.';
COMMENT ON COLUMN normalizer.events.parent_execution_id IS 'Id of the execution that started this one.';
COMMENT ON COLUMN normalizer.events.duration IS 'Seconds that the call took, as the producer measured them.';
COMMENT ON COLUMN normalizer.events.error IS 'Error text; null if there is none.';
COMMENT ON COLUMN normalizer.events.context IS 'The producer''s context, as JSON.';
COMMENT ON COLUMN normalizer.events.result IS 'The producer''s result, as JSON.';
COMMENT ON COLUMN normalizer.events.meta IS 'The producer''s meta object, with the canonical attempts in it.';
COMMENT ON COLUMN normalizer.events.extra IS 'What the producer sent beyond the envelope, under its own names. conflicting_values holds what another report of the same event had instead.';
COMMENT ON COLUMN normalizer.events.coercions IS 'Values whose meaning was changed or guessed, with the original. Null if there are none.';
COMMENT ON COLUMN normalizer.events.evidence IS 'Three digits that say where values came from. Hundreds, attempts: 2 declared, 1 counted from one by the producer, 0 default. Tens, status: 2 a failure that was declared or found in the result, 1 another declared status, 0 derived from the event type. Ones, created_at: 2 from the producer, 1 from the snowflake id, 0 from Kafka.';
COMMENT ON COLUMN normalizer.events.shape IS 'Wire shape of the record that brought it.';
COMMENT ON COLUMN normalizer.events.normalizer_version IS 'Version of the rules that made the row.';
COMMENT ON COLUMN normalizer.events.source_topic IS 'Coordinates of the record that stored the row: the Kafka topic; file: or pg: and a name for what a job read from there; sql for a row inserted by hand. A later report of the event does not change them.';
COMMENT ON COLUMN normalizer.events.source_incarnation IS 'Coordinates of the record: how often the topic was deleted and created again.';
COMMENT ON COLUMN normalizer.events.source_partition IS 'Coordinates of the record: the partition.';
COMMENT ON COLUMN normalizer.events.source_offset IS 'Coordinates of the record: its offset.';
COMMENT ON COLUMN normalizer.events.source_index IS 'Coordinates of the event: its index in the record, from 0.';
COMMENT ON COLUMN normalizer.events.headers IS 'Headers of the record, redacted.';
COMMENT ON COLUMN normalizer.events.trace_id IS 'Trace that the record belongs to, from its traceparent header.';
COMMENT ON COLUMN normalizer.events.recorded_at IS 'Time of the record in Kafka: the producer''s clock under CreateTime, the broker''s under LogAppendTime; null without one.';
COMMENT ON COLUMN normalizer.events.merge_flags IS 'Bits. 1: a report that named no step was merged into a row that has one. 2: the same for the command. 4: a report changed the row. 8: another event has the same event_id. 16: another event of the same execution and class has it, or the reports of this row name two steps. 32: another report of the event lies in another log, or before this row in its log.';
COMMENT ON COLUMN normalizer.events.batch_id IS 'Number of the transaction that wrote the row, from a sequence.';
COMMENT ON COLUMN normalizer.events.ingested_at IS 'When the row was stored.';

CREATE FUNCTION projector.events_at(event_ids bigint[]) RETURNS SETOF normalizer.events
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    ; -- body: 0004_create_execution_projections.sql

CREATE FUNCTION projector.events_of(execution_ids bigint[]) RETURNS SETOF normalizer.events
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    ; -- body: 0004_create_execution_projections.sql

CREATE FUNCTION projector.execution_moves(execution_ids bigint[]) RETURNS SETOF projector.execution_move
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0004_create_execution_projections.sql

CREATE FUNCTION projector.find_attempts(events projector.call_event[]) RETURNS TABLE(execution_id bigint, command_id text, number integer, nth bigint, begun_at timestamp with time zone, in_log bigint[], issued_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    SET enable_hashjoin TO 'on'
    SET enable_nestloop TO 'off'
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.hour_of(moment timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN date_bin('01:00:00'::interval, moment, '2000-01-01 00:00:00+00'::timestamp with time zone);

CREATE FUNCTION projector.known_calls(changes projector.call_change[], OUT to_rebuild projector.call_command[], OUT counted projector.call_id[], OUT failures projector.call_failure[]) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.knows_its_place(created_at timestamp with time zone, recorded_at timestamp with time zone, merge_flags smallint) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (COALESCE((recorded_at < (created_at + '00:00:05'::interval)), false) AND (((merge_flags)::integer & 32) = 0));

CREATE FUNCTION projector.lateness_of(created_at timestamp with time zone, recorded_at timestamp with time zone) RETURNS smallint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (CASE WHEN ((recorded_at >= created_at) AND (recorded_at < (created_at + '00:00:01'::interval))) THEN 2 WHEN (recorded_at IS NULL) THEN 0 WHEN (recorded_at < (created_at - '00:00:01'::interval)) THEN 1 WHEN (recorded_at < (created_at + '00:00:01'::interval)) THEN 2 WHEN (recorded_at < (created_at + '00:00:10'::interval)) THEN 3 WHEN (recorded_at < (created_at + '00:01:00'::interval)) THEN 4 WHEN (recorded_at < (created_at + '00:10:00'::interval)) THEN 5 WHEN (recorded_at < (created_at + '01:00:00'::interval)) THEN 6 WHEN (recorded_at < (created_at + '24:00:00'::interval)) THEN 7 ELSE 8 END)::smallint;

CREATE FUNCTION projector.locate_record(topic text, partition integer, source_offset bigint) RETURNS SETOF projector.located_event
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0016_create_search.sql

CREATE FUNCTION projector.locate_trace(trace_id text) RETURNS SETOF projector.located_event
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    ; -- body: 0016_create_search.sql

CREATE FUNCTION projector.lock_executions(execution_ids bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0002_create_projector.sql

CREATE FUNCTION projector.merge_calls(changes projector.call_change[], rebuilt projector.call_command[], OUT ended projector.call_id[], OUT failed projector.call_id[]) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.merge_executions(changes projector.execution_change[]) RETURNS SETOF projector.execution_move
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0004_create_execution_projections.sql

CREATE FUNCTION projector.microseconds_between(earlier timestamp with time zone, later timestamp with time zone) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (later >= earlier) THEN ((date_part('epoch'::text, (later - earlier)) * (1000000)::double precision))::bigint ELSE NULL::bigint END;

CREATE FUNCTION projector.minute_of(moment timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN date_bin('00:01:00'::interval, moment, '2000-01-01 00:00:00+00'::timestamp with time zone);

CREATE FUNCTION projector.outcome_of(completed_at timestamp with time zone, failed_at timestamp with time zone, cancelled_at timestamp with time zone) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE LEAST(failed_at, cancelled_at, completed_at) WHEN failed_at THEN 'FAILED'::text WHEN cancelled_at THEN 'CANCELLED'::text WHEN completed_at THEN 'COMPLETED'::text ELSE ''::text END;

CREATE FUNCTION projector.percentile_add(state double precision[], fraction double precision, bucket integer, calls bigint) RETURNS double precision[]
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    ; -- body: 0002_create_projector.sql

CREATE FUNCTION projector.seconds_of(bucket integer) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (bucket < 0) THEN (0)::double precision ELSE (power((2)::double precision, (((bucket)::double precision + (0.5)::double precision) / (8)::double precision)) / (1000000)::double precision) END;

CREATE FUNCTION projector.percentile_found(state double precision[]) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT projector.seconds_of(((min(cumulated.slot) FILTER (WHERE ((('1000000'::numeric)::double precision * cumulated.up_to) >= (round(((percentile_found.state)[1] * ('1000000'::numeric)::double precision)) * cumulated.total))) - 3))::integer) AS seconds_of FROM (SELECT counted.slot, sum(counted.calls) OVER (ORDER BY counted.slot) AS up_to, sum(counted.calls) OVER () AS total FROM unnest(percentile_found.state) WITH ORDINALITY counted(calls, slot) WHERE ((counted.slot > 1) AND (counted.calls <> (0)::double precision))) cumulated);

CREATE FUNCTION projector.playbook_of(playbook_ranked text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN COALESCE((playbook_ranked)[3], ''::text);

CREATE FUNCTION projector.project_calls() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.project_counters() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    ; -- body: 0003_create_event_counters.sql

CREATE FUNCTION projector.project_executions() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    ; -- body: 0004_create_execution_projections.sql

CREATE FUNCTION projector.project_off() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0010_create_repair.sql

CREATE FUNCTION projector.project_quarantine() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0003_create_event_counters.sql

CREATE FUNCTION projector.project_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0007_create_verification.sql

CREATE FUNCTION projector.ranked_value(ranked text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN substr(ranked, 18);

CREATE FUNCTION projector.rebuild_calls(commands projector.call_command[], OUT touched projector.call_id[], OUT linked projector.call_id[]) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.rebuild_executions(execution_ids bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0004_create_execution_projections.sql

CREATE FUNCTION projector.remove_whole_executions(changes projector.execution_change[]) RETURNS projector.execution_change[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0009_create_retention.sql

CREATE FUNCTION projector.rename_counts(counter_table text, text_column text, time_column text, since timestamp with time zone, until timestamp with time zone, old_values text[], new_values text[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    SET jit TO 'off'
    ; -- body: 0014_create_erasure.sql

CREATE FUNCTION projector.repair_executions(execution_ids bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    SET enable_nestloop TO 'on'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_custom_plan'
    ; -- body: 0010_create_repair.sql

CREATE FUNCTION projector.report_on_call(role text, type_outcome text, status text, created_at timestamp with time zone, evidence smallint, step text, worker_id text, max_attempts integer, duration double precision, error text, context jsonb, result jsonb) RETURNS TABLE(reporter text, outcome_ranked text, duration_ranked text, error_ranked text, step_ranked text, worker_ranked text, max_attempts_ranked text)
    LANGUAGE sql IMMUTABLE ROWS 1 PARALLEL SAFE
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.report_on_execution(role text, type_outcome text, event_type text, step text, status text, created_at timestamp with time zone, source_topic text, source_partition integer, context jsonb, result jsonb) RETURNS TABLE(last_event_ranked text[], begin_at timestamp with time zone, active_at timestamp with time zone, playbook_ranked text[], outcome text)
    LANGUAGE sql IMMUTABLE ROWS 1 PARALLEL SAFE
    ; -- body: 0004_create_execution_projections.sql

CREATE FUNCTION projector.resolve_attempts(events projector.call_event[]) RETURNS TABLE(event_id bigint, attempts integer)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    SET enable_hashjoin TO 'on'
    SET enable_nestloop TO 'off'
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.retry_candidates(changed projector.call_id[], old_failures projector.call_failure[]) RETURNS SETOF projector.call_id
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.skew_us(created_at timestamp with time zone, recorded_at timestamp with time zone) RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN ((recorded_at >= created_at) AND (recorded_at < (created_at + '00:00:01'::interval))) THEN NULL::bigint WHEN ((recorded_at < (created_at - '00:00:01'::interval)) OR (recorded_at >= (created_at + '00:00:01'::interval))) THEN ((date_part('epoch'::text, (recorded_at - created_at)) * (1000000)::double precision))::bigint ELSE NULL::bigint END;

CREATE FUNCTION projector.stale_retry_links(changed projector.call_id[], old_failures projector.call_failure[]) RETURNS TABLE(execution_id bigint, command_id text, attempts integer, failed_before timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.stored_call_events(commands projector.call_command[]) RETURNS SETOF projector.call_event
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'projector', 'pg_temp'
    ; -- body: 0006_create_call_triggers.sql

CREATE FUNCTION projector.take_shard() RETURNS smallint
    LANGUAGE plpgsql
    ; -- body: 0002_create_projector.sql

CREATE FUNCTION projector.tied_executions(execution_ids bigint[]) RETURNS TABLE(execution_id bigint, tied_to bigint)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'normalizer', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    ; -- body: 0009_create_retention.sql

CREATE FUNCTION projector.version_of(playbook_ranked text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN NULLIF((playbook_ranked)[4], ''::text);

CREATE AGGREGATE projector.percentile(fraction double precision, bucket integer, calls bigint) (
    SFUNC = projector.percentile_add,
    STYPE = double precision[],
    INITCOND = '{}',
    FINALFUNC = projector.percentile_found,
    PARALLEL = safe
);

CREATE TABLE migrations.applied (
    version text NOT NULL,
    name text,
    checksum text,
    applied_at timestamp with time zone DEFAULT now() NOT NULL,
    applied_by text DEFAULT SESSION_USER NOT NULL
);
COMMENT ON TABLE migrations.applied IS 'Private: the files of migrations/ that were applied. `normalizer migrate` writes name and checksum. It refuses a file that was edited afterwards, or has no checksum.';
COMMENT ON COLUMN migrations.applied.version IS 'Digits at the front of the file''s name.';
COMMENT ON COLUMN migrations.applied.name IS 'Name of the file without its ending.';
COMMENT ON COLUMN migrations.applied.checksum IS 'SHA-256 of the file, in hex.';
COMMENT ON COLUMN migrations.applied.applied_at IS 'When the file was applied.';
COMMENT ON COLUMN migrations.applied.applied_by IS 'Role that applied it.';

CREATE TABLE normalizer.archived_rows (
    source_topic text NOT NULL,
    source_incarnation integer NOT NULL,
    source_partition integer NOT NULL,
    job_id text DEFAULT ''::text NOT NULL,
    run integer DEFAULT 0 NOT NULL,
    events bigint DEFAULT 0 NOT NULL,
    quarantined bigint DEFAULT 0 NOT NULL,
    holes bigint DEFAULT 0 NOT NULL
);
COMMENT ON TABLE normalizer.archived_rows IS 'Private: number of rows of events, quarantine and gaps that retention deleted, by coordinates and, if a job wrote them, by its run. The totals of the ledger still include them.';
COMMENT ON COLUMN normalizer.archived_rows.source_topic IS 'Coordinates of the record: the Kafka topic, or the name of a job''s source.';
COMMENT ON COLUMN normalizer.archived_rows.source_incarnation IS 'Coordinates of the record: how often the topic was deleted and created again.';
COMMENT ON COLUMN normalizer.archived_rows.source_partition IS 'Coordinates of the record: the partition.';
COMMENT ON COLUMN normalizer.archived_rows.job_id IS 'Job that wrote the rows; empty if the service did.';
COMMENT ON COLUMN normalizer.archived_rows.run IS 'Run of that job; 0 if the service wrote the rows.';
COMMENT ON COLUMN normalizer.archived_rows.events IS 'Number of events that retention deleted.';
COMMENT ON COLUMN normalizer.archived_rows.quarantined IS 'Number of quarantine entries that retention deleted.';
COMMENT ON COLUMN normalizer.archived_rows.holes IS 'Number of offsets in the gaps that retention deleted.';

CREATE TABLE normalizer.assigned_ids (
    source_topic text NOT NULL,
    source_incarnation integer NOT NULL,
    source_partition integer NOT NULL,
    source_offset bigint NOT NULL,
    source_index integer NOT NULL,
    event_id bigint NOT NULL
);
COMMENT ON TABLE normalizer.assigned_ids IS 'Private: ids that gen_snowflake() gave to events whose derived ids were all taken, so that a replay finds them again. Nearly always empty.';
COMMENT ON COLUMN normalizer.assigned_ids.source_topic IS 'Coordinates of the record: the Kafka topic, or the name of a job''s source.';
COMMENT ON COLUMN normalizer.assigned_ids.source_incarnation IS 'Coordinates of the record: how often the topic was deleted and created again.';
COMMENT ON COLUMN normalizer.assigned_ids.source_partition IS 'Coordinates of the record: the partition.';
COMMENT ON COLUMN normalizer.assigned_ids.source_offset IS 'Coordinates of the record: its offset.';
COMMENT ON COLUMN normalizer.assigned_ids.source_index IS 'Coordinates of the event: its index in the record, from 0.';
COMMENT ON COLUMN normalizer.assigned_ids.event_id IS 'Id of the event.';

CREATE TABLE normalizer.dedup_horizon (
    topic text NOT NULL,
    incarnation integer NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    cluster_id text,
    last_offset bigint,
    last_recorded_ms bigint,
    last_crc bigint
);
COMMENT ON TABLE normalizer.dedup_horizon IS 'Private: dedup_offset for what has no row in source_positions: how far jobs wrote, by the coordinates of their records, and how far a deleted position had got. No job wrote a record from next_offset on. A writer below it locks the row, so that two writers of the same coordinates see each other.';
COMMENT ON COLUMN normalizer.dedup_horizon.topic IS 'Kafka topic, or the name of a file or table that a job reads.';
COMMENT ON COLUMN normalizer.dedup_horizon.incarnation IS 'How often the topic was deleted and created again, from 0.';
COMMENT ON COLUMN normalizer.dedup_horizon.partition IS 'Partition of the topic.';
COMMENT ON COLUMN normalizer.dedup_horizon.next_offset IS 'An upper bound: no writer has written a record from this offset on. Jobs announce 65,536 offsets ahead of what they write.';
COMMENT ON COLUMN normalizer.dedup_horizon.cluster_id IS 'Id of the Kafka cluster.';
COMMENT ON COLUMN normalizer.dedup_horizon.last_offset IS 'Offset of the last record that was read.';
COMMENT ON COLUMN normalizer.dedup_horizon.last_recorded_ms IS 'Kafka time of that record, milliseconds since 1970.';
COMMENT ON COLUMN normalizer.dedup_horizon.last_crc IS 'CRC-32 of that record, to recognize a topic that was created again.';

CREATE TABLE normalizer.drift_findings (
    shape text NOT NULL,
    field text NOT NULL,
    type text NOT NULL,
    kind text NOT NULL,
    source_topic text NOT NULL,
    source_incarnation integer NOT NULL,
    source_partition integer NOT NULL,
    source_offset bigint NOT NULL,
    example text NOT NULL,
    found_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT drift_findings_kind CHECK ((kind = ANY (ARRAY['unknown_key'::text, 'changed_type'::text])))
);
COMMENT ON TABLE normalizer.drift_findings IS 'Private: top-level fields that are not documented, and documented ones with a value of another type, by shape, with the record where each was first seen and an example (redacted). Delete a row to get the finding again. View: drift.';
COMMENT ON COLUMN normalizer.drift_findings.shape IS 'Wire shape of the record that brought it.';
COMMENT ON COLUMN normalizer.drift_findings.field IS 'Top-level key of the record.';
COMMENT ON COLUMN normalizer.drift_findings.type IS 'JSON type of the value: object, list, text, number or bool.';
COMMENT ON COLUMN normalizer.drift_findings.kind IS 'unknown_key or changed_type.';
COMMENT ON COLUMN normalizer.drift_findings.source_topic IS 'Coordinates of the record: the Kafka topic, or the name of a job''s source.';
COMMENT ON COLUMN normalizer.drift_findings.source_incarnation IS 'Coordinates of the record: how often the topic was deleted and created again.';
COMMENT ON COLUMN normalizer.drift_findings.source_partition IS 'Coordinates of the record: the partition.';
COMMENT ON COLUMN normalizer.drift_findings.source_offset IS 'Coordinates of the record: its offset.';
COMMENT ON COLUMN normalizer.drift_findings.example IS 'A value of the field, redacted and shortened.';
COMMENT ON COLUMN normalizer.drift_findings.found_at IS 'When it was found.';

CREATE TABLE normalizer.event_changes (
    transaction_id xid8 DEFAULT pg_current_xact_id() NOT NULL,
    change_id bigint NOT NULL,
    event_ids bigint[] NOT NULL,
    noted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
ALTER TABLE ONLY normalizer.event_changes ALTER COLUMN event_ids SET STORAGE EXTERNAL;
COMMENT ON TABLE normalizer.event_changes IS 'Private: which events were inserted or updated since a relay was registered, and not sent yet. The relay deletes a row after it has sent its events.';
COMMENT ON COLUMN normalizer.event_changes.transaction_id IS 'The transaction that changed them, counted from the first one of the cluster.';
COMMENT ON COLUMN normalizer.event_changes.change_id IS 'Distinguishes the changes of one transaction.';
COMMENT ON COLUMN normalizer.event_changes.event_ids IS 'At most 1,000 of the events.';
COMMENT ON COLUMN normalizer.event_changes.noted_at IS 'When they were changed.';

ALTER TABLE normalizer.event_changes ALTER COLUMN change_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME normalizer.event_changes_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE normalizer.event_relay (
    one_row boolean DEFAULT true NOT NULL,
    registration text NOT NULL,
    group_id text NOT NULL,
    sent_transaction_id xid8 DEFAULT '0'::xid8 NOT NULL,
    sent_change_id bigint DEFAULT 0 NOT NULL,
    CONSTRAINT event_relay_one_row CHECK (one_row)
);
COMMENT ON TABLE normalizer.event_relay IS 'Private: one row while a relay is registered; without it no change is noted. Every statement that writes events reads it.';
COMMENT ON COLUMN normalizer.event_relay.one_row IS 'There is one relay at most.';
COMMENT ON COLUMN normalizer.event_relay.registration IS 'A name made when the relay was registered; its position in Kafka names it too.';
COMMENT ON COLUMN normalizer.event_relay.group_id IS 'The consumer group whose offset is the position of the relay.';
COMMENT ON COLUMN normalizer.event_relay.sent_transaction_id IS 'Changes up to this one and sent_change_id were sent, and are deleted: a position in Kafka before it cannot be gone on from.';
COMMENT ON COLUMN normalizer.event_relay.sent_change_id IS 'The change of sent_transaction_id up to which all are deleted.';

CREATE TABLE normalizer.forgotten_executions (
    execution_id bigint NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    who text NOT NULL,
    why text NOT NULL,
    events bigint DEFAULT 0 NOT NULL,
    refused bigint DEFAULT 0 NOT NULL,
    ended_at timestamp with time zone
);
COMMENT ON TABLE normalizer.forgotten_executions IS 'Private: executions that `normalizer forget` erased: who did it, when and why, and no content. Their events are ignored by every writer. Every transaction that writes events reads it.';
COMMENT ON COLUMN normalizer.forgotten_executions.execution_id IS 'Id of the execution.';
COMMENT ON COLUMN normalizer.forgotten_executions.at IS 'When it was done.';
COMMENT ON COLUMN normalizer.forgotten_executions.who IS 'Who did it.';
COMMENT ON COLUMN normalizer.forgotten_executions.why IS 'The reason that was given.';
COMMENT ON COLUMN normalizer.forgotten_executions.events IS 'Number of its events that were deleted.';
COMMENT ON COLUMN normalizer.forgotten_executions.refused IS 'Number of its rejected records that were emptied. Their coordinates and their reason stay, for the ledger.';
COMMENT ON COLUMN normalizer.forgotten_executions.ended_at IS 'When the erasure was complete. Null until then; the same command continues it.';

CREATE TABLE normalizer.gaps (
    topic text NOT NULL,
    incarnation integer NOT NULL,
    partition integer NOT NULL,
    reason text NOT NULL,
    missing int8multirange NOT NULL,
    offsets bigint NOT NULL,
    block bigint GENERATED ALWAYS AS ((lower(missing) >> 10)) STORED NOT NULL,
    found_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT gaps_not_empty CHECK ((NOT isempty(missing))),
    CONSTRAINT gaps_reason CHECK ((reason = ANY (ARRAY['hole'::text, 'expired'::text, 'skipped'::text])))
)
WITH (fillfactor='70');
COMMENT ON TABLE normalizer.gaps IS 'Private: offsets without a stored record. hole: the broker had none there (markers, compaction). expired: Kafka deleted them before they were read. skipped: an operator skipped them.';
COMMENT ON COLUMN normalizer.gaps.topic IS 'Kafka topic, or the name of a file or table that a job reads.';
COMMENT ON COLUMN normalizer.gaps.incarnation IS 'How often the topic was deleted and created again, from 0.';
COMMENT ON COLUMN normalizer.gaps.partition IS 'Partition of the topic.';
COMMENT ON COLUMN normalizer.gaps.reason IS 'hole, expired or skipped.';
COMMENT ON COLUMN normalizer.gaps.missing IS 'The offsets. A producer with transactions leaves one after each of them, so gaps that begin within the same 1,024 offsets (block) share a row.';
COMMENT ON COLUMN normalizer.gaps.offsets IS 'Number of offsets that were counted as holes for this row. It is more than missing holds if a position was set back and met them again.';
COMMENT ON COLUMN normalizer.gaps.block IS 'First missing offset / 1,024: neighbours share a row.';
COMMENT ON COLUMN normalizer.gaps.found_at IS 'When it was found.';

CREATE TABLE normalizer.job_batches (
    batch_id bigint NOT NULL,
    job_id text NOT NULL,
    run integer NOT NULL
);
COMMENT ON TABLE normalizer.job_batches IS 'Private: transactions that a job wrote. Their rows are in the totals of the job, not in source_positions.';
COMMENT ON COLUMN normalizer.job_batches.batch_id IS 'Number of the transaction that wrote the row.';
COMMENT ON COLUMN normalizer.job_batches.job_id IS 'Id of the job, made from its kind and its options.';
COMMENT ON COLUMN normalizer.job_batches.run IS 'Number of the run, from 1.';

CREATE TABLE normalizer.job_parts (
    job_id text NOT NULL,
    run integer NOT NULL,
    topic text NOT NULL,
    incarnation integer NOT NULL,
    partition integer NOT NULL,
    start_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    end_offset bigint,
    cursor text,
    records bigint DEFAULT 0 NOT NULL,
    holes bigint DEFAULT 0 NOT NULL,
    expired bigint DEFAULT 0 NOT NULL,
    outcomes bigint DEFAULT 0 NOT NULL,
    stored bigint DEFAULT 0 NOT NULL,
    duplicate bigint DEFAULT 0 NOT NULL,
    merged bigint DEFAULT 0 NOT NULL,
    quarantined bigint DEFAULT 0 NOT NULL,
    ignored bigint DEFAULT 0 NOT NULL,
    changed bigint DEFAULT 0 NOT NULL,
    unchanged bigint DEFAULT 0 NOT NULL,
    refused bigint DEFAULT 0 NOT NULL,
    CONSTRAINT job_parts_never_negative CHECK ((LEAST(records, holes, expired, outcomes, stored, duplicate, merged, quarantined, ignored, changed, unchanged, refused) >= 0)),
    CONSTRAINT job_parts_offsets_balance CHECK (((next_offset - start_offset) = (records + holes))),
    CONSTRAINT job_parts_outcomes_balance CHECK ((outcomes = (((((((stored + duplicate) + merged) + quarantined) + ignored) + changed) + unchanged) + refused)))
)
WITH (fillfactor='50');
COMMENT ON TABLE normalizer.job_parts IS 'Private: the position of a job in one part of its source: a partition, a file or a table. Offsets are Kafka offsets, line numbers or row numbers.';
COMMENT ON COLUMN normalizer.job_parts.job_id IS 'Id of the job, made from its kind and its options.';
COMMENT ON COLUMN normalizer.job_parts.run IS 'Number of the run, from 1.';
COMMENT ON COLUMN normalizer.job_parts.topic IS 'Kafka topic, or the name of a file or table that a job reads.';
COMMENT ON COLUMN normalizer.job_parts.incarnation IS 'How often the topic was deleted and created again, from 0.';
COMMENT ON COLUMN normalizer.job_parts.partition IS 'Partition of the topic.';
COMMENT ON COLUMN normalizer.job_parts.start_offset IS 'Offset of the first record to read.';
COMMENT ON COLUMN normalizer.job_parts.next_offset IS 'Offset of the next record to read.';
COMMENT ON COLUMN normalizer.job_parts.end_offset IS 'Offset to stop before; null if the end is not known.';
COMMENT ON COLUMN normalizer.job_parts.cursor IS 'Key of the last row that was read, if offsets only count rows.';
COMMENT ON COLUMN normalizer.job_parts.records IS 'Number of records that were read.';
COMMENT ON COLUMN normalizer.job_parts.holes IS 'Number of offsets without a record.';
COMMENT ON COLUMN normalizer.job_parts.expired IS 'Number of the holes that retention deleted before they were read.';
COMMENT ON COLUMN normalizer.job_parts.outcomes IS 'Number of outcomes, the sum of the columns that follow.';
COMMENT ON COLUMN normalizer.job_parts.stored IS 'Number of events that became rows.';
COMMENT ON COLUMN normalizer.job_parts.duplicate IS 'Number of events that were stored already and added nothing.';
COMMENT ON COLUMN normalizer.job_parts.merged IS 'Number of events that were stored already and changed the row.';
COMMENT ON COLUMN normalizer.job_parts.quarantined IS 'Number of rejected records and events.';
COMMENT ON COLUMN normalizer.job_parts.ignored IS 'Number of records and events that need no row: tombstones, empty batches, expired events.';
COMMENT ON COLUMN normalizer.job_parts.changed IS 'Number of stored rows that the job changed.';
COMMENT ON COLUMN normalizer.job_parts.unchanged IS 'Number of stored rows that the job left as they were.';
COMMENT ON COLUMN normalizer.job_parts.refused IS 'Number of stored rows that today''s rules would refuse.';

CREATE TABLE normalizer.job_refusals (
    job_id text NOT NULL,
    run integer NOT NULL,
    event_id bigint NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL
);
COMMENT ON TABLE normalizer.job_refusals IS 'Private: stored events that renormalize left as they were, because today''s rules would refuse them, give them another key, or change a row merged from several records.';
COMMENT ON COLUMN normalizer.job_refusals.job_id IS 'Id of the job, made from its kind and its options.';
COMMENT ON COLUMN normalizer.job_refusals.run IS 'Number of the run, from 1.';
COMMENT ON COLUMN normalizer.job_refusals.event_id IS 'Id of the event.';
COMMENT ON COLUMN normalizer.job_refusals.reason IS 'A reason of normalizer.quarantine, or not_one_event, key_changes or merged_row.';
COMMENT ON COLUMN normalizer.job_refusals.detail IS 'The reason in a sentence.';

CREATE TABLE normalizer.jobs (
    job_id text NOT NULL,
    run integer NOT NULL,
    kind text NOT NULL,
    spec text NOT NULL,
    owner text NOT NULL,
    lock_key bigint NOT NULL,
    epoch bigint DEFAULT 1 NOT NULL,
    state text DEFAULT 'running'::text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    progress_ratio double precision,
    records_per_s double precision DEFAULT 0 NOT NULL,
    throttled_by_lag_s double precision DEFAULT 0 NOT NULL,
    throttled_by_rate_s double precision DEFAULT 0 NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT jobs_kind CHECK ((kind = ANY (ARRAY['backfill'::text, 'renormalize'::text, 'redrive'::text, 'redact'::text]))),
    CONSTRAINT jobs_progress_ratio CHECK (((progress_ratio >= (0)::double precision) AND (progress_ratio <= (1)::double precision))),
    CONSTRAINT jobs_state CHECK ((state = ANY (ARRAY['running'::text, 'stopped'::text, 'complete'::text, 'truncated'::text, 'failed'::text])))
);
COMMENT ON TABLE normalizer.jobs IS 'Private: one row for each run of a job over history. job_id is made from the job''s options, so that the same command continues a run that has not ended. epoch fences a runner that lost the job. View: jobs.';
COMMENT ON COLUMN normalizer.jobs.job_id IS 'Id of the job, made from its kind and its options.';
COMMENT ON COLUMN normalizer.jobs.run IS 'Number of the run, from 1.';
COMMENT ON COLUMN normalizer.jobs.kind IS 'backfill, renormalize, redrive or redact.';
COMMENT ON COLUMN normalizer.jobs.spec IS 'Options of the job, as JSON.';
COMMENT ON COLUMN normalizer.jobs.owner IS 'Process that runs the job.';
COMMENT ON COLUMN normalizer.jobs.lock_key IS 'Key of the advisory lock that the runner holds on a connection of its own. Without the lock there is no runner.';
COMMENT ON COLUMN normalizer.jobs.epoch IS 'Number of the claim; a writer with a lower epoch is fenced.';
COMMENT ON COLUMN normalizer.jobs.state IS 'running, or how the run ended.';
COMMENT ON COLUMN normalizer.jobs.reason IS 'Why the run ended; empty if there is nothing to add.';
COMMENT ON COLUMN normalizer.jobs.progress_ratio IS 'Share of the source that is done, 0 to 1; null if that is not known.';
COMMENT ON COLUMN normalizer.jobs.records_per_s IS 'Speed, in records per second.';
COMMENT ON COLUMN normalizer.jobs.throttled_by_lag_s IS 'Seconds that the run paused because the service lagged.';
COMMENT ON COLUMN normalizer.jobs.throttled_by_rate_s IS 'Seconds that the run paused to keep to its rate limit.';
COMMENT ON COLUMN normalizer.jobs.started_at IS 'When the run started.';
COMMENT ON COLUMN normalizer.jobs.updated_at IS 'When the runner last wrote this row.';
COMMENT ON COLUMN normalizer.jobs.ended_at IS 'When the run ended; null while it runs.';

CREATE TABLE normalizer.layout (
    protocol integer DEFAULT 1 NOT NULL,
    one_row boolean DEFAULT true NOT NULL,
    CONSTRAINT layout_one_row CHECK (one_row)
);
COMMENT ON TABLE normalizer.layout IS 'Private: one row with the settings that every writer must agree on.';
COMMENT ON COLUMN normalizer.layout.protocol IS 'A program with another protocol refuses to write, because it would give events other ids.';
COMMENT ON COLUMN normalizer.layout.one_row IS 'Always true: the table has one row.';

CREATE TABLE normalizer.merged_records (
    source_topic text NOT NULL,
    source_incarnation integer NOT NULL,
    source_partition integer NOT NULL,
    offset_block bigint NOT NULL,
    merge_id bigint NOT NULL,
    source_offsets bigint[] NOT NULL,
    source_indexes integer[] NOT NULL,
    event_ids bigint[] NOT NULL
);
COMMENT ON TABLE normalizer.merged_records IS 'Private: records that reported a stored event again (merged, or a duplicate with other coordinates), and the event of each. The row in events has the coordinates of one record only. One row for each transaction and 4,096 offsets (offset_block).';
COMMENT ON COLUMN normalizer.merged_records.source_topic IS 'Coordinates of the record: the Kafka topic, or the name of a job''s source.';
COMMENT ON COLUMN normalizer.merged_records.source_incarnation IS 'Coordinates of the record: how often the topic was deleted and created again.';
COMMENT ON COLUMN normalizer.merged_records.source_partition IS 'Coordinates of the record: the partition.';
COMMENT ON COLUMN normalizer.merged_records.offset_block IS 'Offset / 4,096: the block that all offsets of the row are in.';
COMMENT ON COLUMN normalizer.merged_records.merge_id IS 'A value of the sequence of batch_id, taken after the rows were locked. A row of events with a later batch_id was deleted and stored again since.';
COMMENT ON COLUMN normalizer.merged_records.source_offsets IS 'Offsets of the records, one element for each event.';
COMMENT ON COLUMN normalizer.merged_records.source_indexes IS 'Indexes in those records, in the same order.';
COMMENT ON COLUMN normalizer.merged_records.event_ids IS 'Ids of the rows that they were merged into, in the same order.';

CREATE TABLE normalizer.position_changes (
    change_id bigint NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    who text NOT NULL,
    why text NOT NULL,
    action text NOT NULL,
    topic text NOT NULL,
    incarnation integer NOT NULL,
    partition integer NOT NULL,
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL,
    epoch bigint NOT NULL,
    CONSTRAINT position_changes_action CHECK ((((action = 'skip'::text) AND (to_offset > from_offset)) OR ((action = 'rewind'::text) AND (to_offset < from_offset)) OR ((action = 'retire'::text) AND (to_offset = from_offset))))
);
COMMENT ON TABLE normalizer.position_changes IS 'Private: every time an operator moved or retired a position with `normalizer position`.';
COMMENT ON COLUMN normalizer.position_changes.change_id IS 'Number of the change.';
COMMENT ON COLUMN normalizer.position_changes.at IS 'When it was done.';
COMMENT ON COLUMN normalizer.position_changes.who IS 'Who did it.';
COMMENT ON COLUMN normalizer.position_changes.why IS 'The reason that was given.';
COMMENT ON COLUMN normalizer.position_changes.action IS 'skip, rewind or retire.';
COMMENT ON COLUMN normalizer.position_changes.topic IS 'Kafka topic, or the name of a file or table that a job reads.';
COMMENT ON COLUMN normalizer.position_changes.incarnation IS 'How often the topic was deleted and created again, from 0.';
COMMENT ON COLUMN normalizer.position_changes.partition IS 'Partition of the topic.';
COMMENT ON COLUMN normalizer.position_changes.from_offset IS 'next_offset before the change.';
COMMENT ON COLUMN normalizer.position_changes.to_offset IS 'next_offset after the change.';
COMMENT ON COLUMN normalizer.position_changes.epoch IS 'Epoch that the change started. The previous owner of the partition has to claim it again.';

ALTER TABLE normalizer.position_changes ALTER COLUMN change_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME normalizer.position_changes_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE normalizer.quarantine (
    quarantine_id bigint NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    sqlstate text,
    shape text NOT NULL,
    normalizer_version integer NOT NULL,
    source_topic text NOT NULL,
    source_incarnation integer NOT NULL,
    source_partition integer NOT NULL,
    source_offset bigint NOT NULL,
    source_index integer NOT NULL,
    value_bytes bigint NOT NULL,
    recorded_at timestamp with time zone,
    sample text,
    batch_id bigint NOT NULL,
    quarantined_at timestamp with time zone DEFAULT now() NOT NULL,
    redriven_at timestamp with time zone,
    execution_id bigint,
    CONSTRAINT quarantine_reason CHECK ((reason = ANY (ARRAY['too_large'::text, 'unsupported_framing'::text, 'invalid_utf8'::text, 'invalid_json'::text, 'too_deep'::text, 'not_an_event'::text, 'missing_execution_id'::text, 'invalid_id'::text, 'missing_time'::text, 'rejected_by_database'::text, 'skipped'::text])))
);
COMMENT ON TABLE normalizer.quarantine IS 'Private: every rejected record or event, with its reason and coordinates. Reason skipped: an operator skipped it with `normalizer position skip`.';
COMMENT ON COLUMN normalizer.quarantine.quarantine_id IS 'Number of the entry.';
COMMENT ON COLUMN normalizer.quarantine.reason IS 'Reason, one of a fixed list.';
COMMENT ON COLUMN normalizer.quarantine.detail IS 'The reason in a sentence, with the path inside the record.';
COMMENT ON COLUMN normalizer.quarantine.sqlstate IS 'SQLSTATE, if PostgreSQL refused the row.';
COMMENT ON COLUMN normalizer.quarantine.shape IS 'Wire shape of the record that brought it.';
COMMENT ON COLUMN normalizer.quarantine.normalizer_version IS 'Version of the rules that made the row.';
COMMENT ON COLUMN normalizer.quarantine.source_topic IS 'Coordinates of the record: the Kafka topic, or the name of a job''s source.';
COMMENT ON COLUMN normalizer.quarantine.source_incarnation IS 'Coordinates of the record: how often the topic was deleted and created again.';
COMMENT ON COLUMN normalizer.quarantine.source_partition IS 'Coordinates of the record: the partition.';
COMMENT ON COLUMN normalizer.quarantine.source_offset IS 'Coordinates of the record: its offset.';
COMMENT ON COLUMN normalizer.quarantine.source_index IS 'Coordinates of the event: its index in the record, from 0.';
COMMENT ON COLUMN normalizer.quarantine.value_bytes IS 'Size of the record''s value in bytes.';
COMMENT ON COLUMN normalizer.quarantine.recorded_at IS 'Time of the record in Kafka: the producer''s clock under CreateTime, the broker''s under LogAppendTime; null without one.';
COMMENT ON COLUMN normalizer.quarantine.sample IS 'The first 2 kB of the record, on its first refusal. Null if they are not text, if anything in the record may be a secret, if it is larger than 8 MiB, or after retention deleted the bytes.';
COMMENT ON COLUMN normalizer.quarantine.batch_id IS 'Number of the transaction that wrote the row.';
COMMENT ON COLUMN normalizer.quarantine.quarantined_at IS 'When the record was refused.';
COMMENT ON COLUMN normalizer.quarantine.redriven_at IS 'When a redrive stored the record. The entry stays, because the ledger counts it where it was refused.';
COMMENT ON COLUMN normalizer.quarantine.execution_id IS 'Execution that the record names in its value, else in its key. Null if neither can be read, or after `normalizer forget` erased the execution.';

ALTER TABLE normalizer.quarantine ALTER COLUMN quarantine_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME normalizer.quarantine_quarantine_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE normalizer.quarantine_raw (
    source_topic text NOT NULL,
    source_incarnation integer NOT NULL,
    source_partition integer NOT NULL,
    source_offset bigint NOT NULL,
    key bytea,
    value bytea,
    headers jsonb,
    value_sha256 bytea NOT NULL,
    whole boolean NOT NULL,
    kept_at timestamp with time zone DEFAULT now() NOT NULL
);
COMMENT ON TABLE normalizer.quarantine_raw IS 'Private: the refused bytes as received, not redacted, for the owner and for redrive only. Complete up to 1 MiB; of a larger record the first 64 KiB and the hash.';
COMMENT ON COLUMN normalizer.quarantine_raw.source_topic IS 'Coordinates of the record: the Kafka topic, or the name of a job''s source.';
COMMENT ON COLUMN normalizer.quarantine_raw.source_incarnation IS 'Coordinates of the record: how often the topic was deleted and created again.';
COMMENT ON COLUMN normalizer.quarantine_raw.source_partition IS 'Coordinates of the record: the partition.';
COMMENT ON COLUMN normalizer.quarantine_raw.source_offset IS 'Coordinates of the record: its offset.';
COMMENT ON COLUMN normalizer.quarantine_raw.key IS 'Key of the record, as received.';
COMMENT ON COLUMN normalizer.quarantine_raw.value IS 'Value of the record, as received.';
COMMENT ON COLUMN normalizer.quarantine_raw.headers IS 'Headers of the record; values are base64.';
COMMENT ON COLUMN normalizer.quarantine_raw.value_sha256 IS 'SHA-256 of the whole value.';
COMMENT ON COLUMN normalizer.quarantine_raw.whole IS 'True if value holds all bytes, false if only the first 64 KiB.';
COMMENT ON COLUMN normalizer.quarantine_raw.kept_at IS 'When the bytes were stored.';

CREATE TABLE normalizer.redrive_attempts (
    quarantine_id bigint NOT NULL,
    tried_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    tried_by text NOT NULL,
    normalizer_version integer NOT NULL,
    outcome text NOT NULL,
    detail text NOT NULL,
    job_id text NOT NULL,
    run integer NOT NULL,
    CONSTRAINT redrive_attempts_outcome CHECK ((outcome = ANY (ARRAY['redriven'::text, 'refused'::text, 'gone'::text])))
);
COMMENT ON TABLE normalizer.redrive_attempts IS 'Private: every try to redrive a rejected record: who, when, under which rules, and the outcome.';
COMMENT ON COLUMN normalizer.redrive_attempts.quarantine_id IS 'Number of the entry.';
COMMENT ON COLUMN normalizer.redrive_attempts.tried_at IS 'When it was tried.';
COMMENT ON COLUMN normalizer.redrive_attempts.tried_by IS 'Who started the redrive.';
COMMENT ON COLUMN normalizer.redrive_attempts.normalizer_version IS 'Version of the rules of the try.';
COMMENT ON COLUMN normalizer.redrive_attempts.outcome IS 'redriven, refused or gone: retention or an erasure took it.';
COMMENT ON COLUMN normalizer.redrive_attempts.detail IS 'The outcome in a sentence.';
COMMENT ON COLUMN normalizer.redrive_attempts.job_id IS 'Id of the job, made from its kind and its options.';
COMMENT ON COLUMN normalizer.redrive_attempts.run IS 'Number of the run, from 1.';

CREATE TABLE normalizer.retention_horizon (
    expired_before timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    one_row boolean DEFAULT true NOT NULL,
    CONSTRAINT retention_horizon_one_row CHECK (one_row)
);
COMMENT ON TABLE normalizer.retention_horizon IS 'Private: one row. An event is ignored as expired if the time of its record in Kafka (or, without one, its created_at) is before expired_before. Every transaction that writes events reads it. expired_before never decreases. Why, and who raises it: 0009_create_retention.sql.';
COMMENT ON COLUMN normalizer.retention_horizon.expired_before IS 'Events whose record has an earlier time in Kafka are ignored.';
COMMENT ON COLUMN normalizer.retention_horizon.one_row IS 'Always true: the table has one row.';

CREATE SEQUENCE normalizer.snowflake_clock
    START WITH 0
    INCREMENT BY 1
    MINVALUE 0
    NO MAXVALUE
    CACHE 1;
COMMENT ON SEQUENCE normalizer.snowflake_clock IS 'Private: the clock of gen_snowflake(), one ascending number: milliseconds since 2024-01-01 UTC << 12, plus a number within the millisecond.';

CREATE TABLE normalizer.snowflake_lock (
);
COMMENT ON TABLE normalizer.snowflake_lock IS 'Private: always empty. Its lock makes processes that generate ids wait for each other.';

CREATE TABLE normalizer.source_heartbeats (
    topic text NOT NULL,
    partition integer NOT NULL,
    incarnation integer NOT NULL,
    epoch bigint NOT NULL,
    partition_count integer,
    log_end bigint,
    next_offset bigint NOT NULL,
    end_seen_at timestamp with time zone,
    behind_since timestamp with time zone,
    mark_offset bigint,
    mark_at timestamp with time zone,
    stopped boolean DEFAULT false NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='50');
COMMENT ON TABLE normalizer.source_heartbeats IS 'Private: heartbeat of the process that owns each partition, at its claim and every three seconds, with the end of the committed records that it saw last. Once the owner is silent, a process that may not claim the partition reports here that it is stopped. Without a heartbeat there is no process.';
COMMENT ON COLUMN normalizer.source_heartbeats.topic IS 'Kafka topic, or the name of a file or table that a job reads.';
COMMENT ON COLUMN normalizer.source_heartbeats.partition IS 'Partition of the topic.';
COMMENT ON COLUMN normalizer.source_heartbeats.incarnation IS 'How often the topic was deleted and created again, from 0.';
COMMENT ON COLUMN normalizer.source_heartbeats.epoch IS 'Number of the claim; a writer with a lower epoch is fenced.';
COMMENT ON COLUMN normalizer.source_heartbeats.partition_count IS 'Number of partitions of the topic, null before the first report. A partition that was never claimed has no row.';
COMMENT ON COLUMN normalizer.source_heartbeats.log_end IS 'The end of the committed records. Null from a claim until its owner has seen it.';
COMMENT ON COLUMN normalizer.source_heartbeats.next_offset IS 'The position at the time of the heartbeat.';
COMMENT ON COLUMN normalizer.source_heartbeats.end_seen_at IS 'When the broker last reported the end of the log. It stays while the broker is away, and when another process claims the partition. Null before the first report.';
COMMENT ON COLUMN normalizer.source_heartbeats.behind_since IS 'Every record that the log held at this time is stored, but later ones are not. Null if all are, or before the first report.';
COMMENT ON COLUMN normalizer.source_heartbeats.mark_offset IS 'The end of the log at mark_at. When the position reaches it, behind_since becomes mark_at.';
COMMENT ON COLUMN normalizer.source_heartbeats.mark_at IS 'When mark_offset was the end of the log.';
COMMENT ON COLUMN normalizer.source_heartbeats.stopped IS 'True if the process leaves the partition alone: the topic was created again, another cluster answers, the table of shapes is another, or the log is damaged.';
COMMENT ON COLUMN normalizer.source_heartbeats.heartbeat_at IS 'When the owner last wrote this row.';

CREATE TABLE normalizer.source_positions (
    topic text NOT NULL,
    incarnation integer NOT NULL,
    partition integer NOT NULL,
    cluster_id text NOT NULL,
    owner text NOT NULL,
    epoch bigint DEFAULT 1 NOT NULL,
    start_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    dedup_offset bigint DEFAULT 0 NOT NULL,
    records bigint DEFAULT 0 NOT NULL,
    holes bigint DEFAULT 0 NOT NULL,
    rewound bigint DEFAULT 0 NOT NULL,
    outcomes bigint DEFAULT 0 NOT NULL,
    stored bigint DEFAULT 0 NOT NULL,
    duplicate bigint DEFAULT 0 NOT NULL,
    merged bigint DEFAULT 0 NOT NULL,
    quarantined bigint DEFAULT 0 NOT NULL,
    ignored bigint DEFAULT 0 NOT NULL,
    last_offset bigint,
    last_recorded_ms bigint,
    last_crc bigint,
    holder text,
    slice_records integer,
    claimed_at timestamp with time zone,
    committed_at timestamp with time zone,
    shapes text DEFAULT ''::text NOT NULL,
    CONSTRAINT source_positions_never_negative CHECK ((LEAST(records, holes, rewound, outcomes, stored, duplicate, merged, quarantined, ignored, (slice_records)::bigint) >= 0)),
    CONSTRAINT source_positions_offsets_balance CHECK ((((next_offset - start_offset) + rewound) = (records + holes))),
    CONSTRAINT source_positions_outcomes_balance CHECK ((outcomes = ((((stored + duplicate) + merged) + quarantined) + ignored)))
)
WITH (fillfactor='50');
COMMENT ON TABLE normalizer.source_positions IS 'Private: the position of each Kafka partition, with running totals that must balance. Only the transaction that writes the events moves it. epoch fences a process that lost the partition.';
COMMENT ON COLUMN normalizer.source_positions.topic IS 'Kafka topic, or the name of a file or table that a job reads.';
COMMENT ON COLUMN normalizer.source_positions.incarnation IS 'How often the topic was deleted and created again, from 0.';
COMMENT ON COLUMN normalizer.source_positions.partition IS 'Partition of the topic.';
COMMENT ON COLUMN normalizer.source_positions.cluster_id IS 'Id of the Kafka cluster.';
COMMENT ON COLUMN normalizer.source_positions.owner IS 'Process that claimed the partition.';
COMMENT ON COLUMN normalizer.source_positions.epoch IS 'Number of the claim; a writer with a lower epoch is fenced.';
COMMENT ON COLUMN normalizer.source_positions.start_offset IS 'Offset of the first record to read.';
COMMENT ON COLUMN normalizer.source_positions.next_offset IS 'Offset of the next record to read.';
COMMENT ON COLUMN normalizer.source_positions.dedup_offset IS 'No writer has written a record of this partition from this offset on. It never decreases. Records below it are looked up by their coordinates, for example after a position was set back by hand, or when a job read ahead.';
COMMENT ON COLUMN normalizer.source_positions.records IS 'Number of records that were read.';
COMMENT ON COLUMN normalizer.source_positions.holes IS 'Number of offsets without a record: transaction markers, compaction, retention (see normalizer.gaps).';
COMMENT ON COLUMN normalizer.source_positions.rewound IS 'Number of offsets that an operator set the position back by. They are counted again.';
COMMENT ON COLUMN normalizer.source_positions.outcomes IS 'Number of outcomes, the sum of the columns that follow.';
COMMENT ON COLUMN normalizer.source_positions.stored IS 'Number of events that became rows.';
COMMENT ON COLUMN normalizer.source_positions.duplicate IS 'Number of events that were stored already and added nothing.';
COMMENT ON COLUMN normalizer.source_positions.merged IS 'Number of events that were stored already and changed the row.';
COMMENT ON COLUMN normalizer.source_positions.quarantined IS 'Number of rejected records and events.';
COMMENT ON COLUMN normalizer.source_positions.ignored IS 'Number of records and events that need no row: tombstones, empty batches, expired events.';
COMMENT ON COLUMN normalizer.source_positions.last_offset IS 'Offset of the last record that was read.';
COMMENT ON COLUMN normalizer.source_positions.last_recorded_ms IS 'Kafka time of that record, milliseconds since 1970.';
COMMENT ON COLUMN normalizer.source_positions.last_crc IS 'CRC-32 of that record, to recognize a topic that was created again.';
COMMENT ON COLUMN normalizer.source_positions.holder IS 'Random name of the process that may have records in hand. Null once it has given the partition up in order. If the next owner finds another name than its own, that process was killed, and the partition is a suspect.';
COMMENT ON COLUMN normalizer.source_positions.slice_records IS 'Of a suspect: how many of the next records its owner has in hand at most. 1: it has one, and no record of any partition besides. 0: an owner ended then, so that record is to blame. Null: the partition is no suspect.';
COMMENT ON COLUMN normalizer.source_positions.claimed_at IS 'When the last process claimed the partition. Null of a position that is not Kafka''s.';
COMMENT ON COLUMN normalizer.source_positions.committed_at IS 'When the last record was committed; neither a claim nor an offset without a record changes it. Null before the first.';
COMMENT ON COLUMN normalizer.source_positions.shapes IS 'Fingerprint of the table of shapes (NORMALIZER_SHAPES) that the records are read by; empty without a table. A process with another one does not read them until --accept-shapes.';

CREATE TABLE normalizer.source_topics (
    topic text NOT NULL,
    cluster_id text NOT NULL
);
COMMENT ON TABLE normalizer.source_topics IS 'Private: the Kafka cluster that each topic belongs to. The first claim of any of its partitions adds the topic, and so does the first batch of a backfill that reads it from Kafka. A process that another cluster answers claims no partition of it, and only --accept-reset moves the topic to that cluster.';
COMMENT ON COLUMN normalizer.source_topics.topic IS 'Kafka topic, or the name of a file or table that a job reads.';
COMMENT ON COLUMN normalizer.source_topics.cluster_id IS 'Id of the Kafka cluster.';

CREATE TABLE projector.after (
    event_id bigint NOT NULL,
    execution_id bigint NOT NULL,
    event_type text NOT NULL,
    step text NOT NULL,
    status text NOT NULL,
    attempts integer NOT NULL,
    max_attempts integer,
    created_at timestamp with time zone NOT NULL,
    worker_id text,
    command_id text,
    iteration integer,
    node_type text,
    catalog_id bigint,
    parent_event_id bigint,
    parent_execution_id bigint,
    duration double precision,
    error text,
    context jsonb,
    result jsonb,
    meta jsonb NOT NULL,
    extra jsonb,
    coercions jsonb,
    evidence smallint NOT NULL,
    shape text NOT NULL,
    normalizer_version integer NOT NULL,
    source_topic text NOT NULL,
    source_incarnation integer NOT NULL,
    source_partition integer NOT NULL,
    source_offset bigint NOT NULL,
    source_index integer NOT NULL,
    headers jsonb,
    trace_id text,
    recorded_at timestamp with time zone,
    merge_flags smallint NOT NULL,
    batch_id bigint NOT NULL,
    ingested_at timestamp with time zone NOT NULL,
    CONSTRAINT after_is_empty CHECK (false)
);
COMMENT ON TABLE projector.after IS 'Private: always empty. Stands in for the rows after a statement if it has none.';
COMMENT ON COLUMN projector.after.event_id IS 'Id of the event.';
COMMENT ON COLUMN projector.after.execution_id IS 'Id of the execution.';
COMMENT ON COLUMN projector.after.event_type IS 'Type of the event, in the producer''s spelling.';
COMMENT ON COLUMN projector.after.step IS 'Name of the step; empty if there is none.';
COMMENT ON COLUMN projector.after.status IS 'Canonical status, in capitals.';
COMMENT ON COLUMN projector.after.attempts IS 'Number of attempts before this one; 0 is the first attempt.';
COMMENT ON COLUMN projector.after.max_attempts IS 'Number of attempts that are allowed in all; null if not declared.';
COMMENT ON COLUMN projector.after.created_at IS 'When the event happened, by the producer''s clock.';
COMMENT ON COLUMN projector.after.worker_id IS 'Id of the worker.';
COMMENT ON COLUMN projector.after.command_id IS 'Id of the command; null if the event names none.';
COMMENT ON COLUMN projector.after.iteration IS 'Index in a loop, from 0; null outside of loops.';
COMMENT ON COLUMN projector.after.node_type IS 'Kind of step, in the producer''s words.';
COMMENT ON COLUMN projector.after.catalog_id IS 'Id of the playbook in the catalog.';
COMMENT ON COLUMN projector.after.parent_event_id IS 'Id of the event that caused this one.';
COMMENT ON COLUMN projector.after.parent_execution_id IS 'Id of the execution that started this one.';
COMMENT ON COLUMN projector.after.duration IS 'Seconds that the call took, as the producer measured them.';
COMMENT ON COLUMN projector.after.error IS 'Error text; null if there is none.';
COMMENT ON COLUMN projector.after.context IS 'The producer''s context, as JSON.';
COMMENT ON COLUMN projector.after.result IS 'The producer''s result, as JSON.';
COMMENT ON COLUMN projector.after.meta IS 'The producer''s meta object, with the canonical attempts in it.';
COMMENT ON COLUMN projector.after.extra IS 'What the producer sent beyond the envelope, under its own names. conflicting_values holds what another report of the same event had instead.';
COMMENT ON COLUMN projector.after.coercions IS 'Values whose meaning was changed or guessed, with the original. Null if there are none.';
COMMENT ON COLUMN projector.after.evidence IS 'Three digits that say where values came from. Hundreds, attempts: 2 declared, 1 counted from one by the producer, 0 default. Tens, status: 2 a failure that was declared or found in the result, 1 another declared status, 0 derived from the event type. Ones, created_at: 2 from the producer, 1 from the snowflake id, 0 from Kafka.';
COMMENT ON COLUMN projector.after.shape IS 'Wire shape of the record that brought it.';
COMMENT ON COLUMN projector.after.normalizer_version IS 'Version of the rules that made the row.';
COMMENT ON COLUMN projector.after.source_topic IS 'Coordinates of the record that stored the row: the Kafka topic; file: or pg: and a name for what a job read from there; sql for a row inserted by hand. A later report of the event does not change them.';
COMMENT ON COLUMN projector.after.source_incarnation IS 'Coordinates of the record: how often the topic was deleted and created again.';
COMMENT ON COLUMN projector.after.source_partition IS 'Coordinates of the record: the partition.';
COMMENT ON COLUMN projector.after.source_offset IS 'Coordinates of the record: its offset.';
COMMENT ON COLUMN projector.after.source_index IS 'Coordinates of the event: its index in the record, from 0.';
COMMENT ON COLUMN projector.after.headers IS 'Headers of the record, redacted.';
COMMENT ON COLUMN projector.after.trace_id IS 'Trace that the record belongs to, from its traceparent header.';
COMMENT ON COLUMN projector.after.recorded_at IS 'Time of the record in Kafka: the producer''s clock under CreateTime, the broker''s under LogAppendTime; null without one.';
COMMENT ON COLUMN projector.after.merge_flags IS 'Bits. 1: a report that named no step was merged into a row that has one. 2: the same for the command. 4: a report changed the row. 8: another event has the same event_id. 16: another event of the same execution and class has it, or the reports of this row name two steps. 32: another report of the event lies in another log, or before this row in its log.';
COMMENT ON COLUMN projector.after.batch_id IS 'Number of the transaction that wrote the row, from a sequence.';
COMMENT ON COLUMN projector.after.ingested_at IS 'When the row was stored.';

CREATE TABLE projector.divergences (
    divergence_id bigint NOT NULL,
    projection text NOT NULL,
    execution_id bigint,
    hour timestamp with time zone,
    noted_by text NOT NULL,
    noted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT divergences_location CHECK (((execution_id IS NULL) OR (hour IS NULL))),
    CONSTRAINT divergences_noted_by CHECK ((noted_by = ANY (ARRAY['verify'::text, 'repair'::text, 'off'::text])))
);
COMMENT ON TABLE projector.divergences IS 'Private: where projections are known to differ from the log: one execution, one hour, or, if both are null, anywhere. A divergence is open until a comparison of just that execution or hour finds agreement. View: agreement.';
COMMENT ON COLUMN projector.divergences.divergence_id IS 'Number of the divergence.';
COMMENT ON COLUMN projector.divergences.projection IS 'Name of the compared projection.';
COMMENT ON COLUMN projector.divergences.execution_id IS 'Execution whose row differs; null if another kind of row does.';
COMMENT ON COLUMN projector.divergences.hour IS 'Hour whose counts differ; null if another kind of row does.';
COMMENT ON COLUMN projector.divergences.noted_by IS 'verify: a comparison found it. repair: an execution was rebuilt, so its roll-ups may differ. off: events were stored without their projections.';
COMMENT ON COLUMN projector.divergences.noted_at IS 'When the divergence was noted.';
COMMENT ON COLUMN projector.divergences.ended_at IS 'When a later comparison found that the projection agrees. Null while the divergence is open; retention then deletes nothing of that execution.';

CREATE TABLE projector.verifications (
    verification_id bigint NOT NULL,
    projection text NOT NULL,
    scope text NOT NULL,
    verdict text NOT NULL,
    compared bigint NOT NULL,
    divergent bigint NOT NULL,
    archived bigint NOT NULL,
    detail text NOT NULL,
    since timestamp with time zone,
    until timestamp with time zone,
    verified_at timestamp with time zone DEFAULT now() NOT NULL,
    took_s double precision NOT NULL,
    CONSTRAINT verifications_scope CHECK ((scope = ANY (ARRAY['all'::text, 'range'::text, 'sample'::text]))),
    CONSTRAINT verifications_verdict CHECK ((verdict = ANY (ARRAY['match'::text, 'divergent'::text, 'inconclusive'::text])))
);
COMMENT ON TABLE projector.verifications IS 'Private: results of projector verify: whether each projection agreed with the events, and how much was compared. View: agreement.';
COMMENT ON COLUMN projector.verifications.verification_id IS 'Number of the comparison.';
COMMENT ON COLUMN projector.verifications.projection IS 'Name of the compared projection.';
COMMENT ON COLUMN projector.verifications.scope IS 'What was compared: all, a range of hours, or a sample.';
COMMENT ON COLUMN projector.verifications.verdict IS 'match, divergent or inconclusive.';
COMMENT ON COLUMN projector.verifications.compared IS 'Number of rows that were compared; 0 if there was nothing to compare.';
COMMENT ON COLUMN projector.verifications.divergent IS 'Number of rows that differed.';
COMMENT ON COLUMN projector.verifications.archived IS 'Number of rows that were left out because retention deleted some of their events.';
COMMENT ON COLUMN projector.verifications.detail IS 'What differed, or why there is no verdict.';
COMMENT ON COLUMN projector.verifications.since IS 'First hour that was compared; null without a limit.';
COMMENT ON COLUMN projector.verifications.until IS 'End of the last hour that was compared; null without a limit.';
COMMENT ON COLUMN projector.verifications.verified_at IS 'When the comparison ended.';
COMMENT ON COLUMN projector.verifications.took_s IS 'Seconds that the comparison took.';

CREATE VIEW projector.agreement AS
 WITH latest AS (
         SELECT DISTINCT ON (verifications.projection) verifications.verification_id,
            verifications.projection,
            verifications.scope,
            verifications.verdict,
            verifications.compared,
            verifications.divergent,
            verifications.archived,
            verifications.detail,
            verifications.since,
            verifications.until,
            verifications.verified_at,
            verifications.took_s
           FROM projector.verifications
          ORDER BY verifications.projection, verifications.verified_at DESC, verifications.verification_id DESC
        ), differed AS (
         SELECT DISTINCT ON (verifications.projection) verifications.projection,
            verifications.detail
           FROM projector.verifications
          WHERE (verifications.verdict = 'divergent'::text)
          ORDER BY verifications.projection, verifications.verified_at DESC, verifications.verification_id DESC
        ), scoped AS (
         SELECT verifications.projection,
            max(verifications.verified_at) FILTER (WHERE (verifications.scope = 'all'::text)) AS all_verified_at,
            max(verifications.verified_at) FILTER (WHERE (verifications.scope = 'range'::text)) AS range_verified_at,
            max(verifications.verified_at) FILTER (WHERE (verifications.scope = 'sample'::text)) AS sample_verified_at
           FROM projector.verifications
          WHERE (verifications.verdict <> 'inconclusive'::text)
          GROUP BY verifications.projection
        ), standing AS (
         SELECT divergences.projection,
            count(DISTINCT ROW(divergences.execution_id, divergences.hour)) AS divergent,
            min(divergences.noted_at) AS divergent_since
           FROM projector.divergences
          WHERE (divergences.ended_at IS NULL)
          GROUP BY divergences.projection
        )
 SELECT projection,
        CASE
            WHEN (standing.divergent > 0) THEN 'divergent'::text
            WHEN (latest.verdict = 'divergent'::text) THEN 'match'::text
            ELSE latest.verdict
        END AS verdict,
    COALESCE(latest.scope, ''::text) AS scope,
    latest.since AS compared_since,
    latest.until AS compared_until,
    COALESCE(latest.compared, (0)::bigint) AS compared,
    COALESCE(standing.divergent, (0)::bigint) AS divergent,
    standing.divergent_since,
    COALESCE(latest.archived, (0)::bigint) AS archived,
        CASE
            WHEN (standing.divergent > 0) THEN COALESCE(differed.detail, ''::text)
            ELSE latest.detail
        END AS detail,
    latest.verified_at,
    latest.took_s,
    (EXTRACT(epoch FROM (now() - latest.verified_at)))::double precision AS age_s,
    scoped.all_verified_at,
    scoped.range_verified_at,
    scoped.sample_verified_at
   FROM (((latest
     FULL JOIN standing USING (projection))
     LEFT JOIN differed USING (projection))
     LEFT JOIN scoped USING (projection));
COMMENT ON VIEW projector.agreement IS 'Do the views agree with the stored events? divergent: the number of open divergences of a projection, until a comparison that covers them finds agreement. Otherwise the last result of `projector verify`. Also when each scope was last compared: all, a range of hours, a sample.';
COMMENT ON COLUMN projector.agreement.projection IS 'name of the compared projection';
COMMENT ON COLUMN projector.agreement.verdict IS 'match, divergent or inconclusive';
COMMENT ON COLUMN projector.agreement.scope IS 'everything, range or sample';
COMMENT ON COLUMN projector.agreement.compared_since IS 'first hour that was compared; null without a limit';
COMMENT ON COLUMN projector.agreement.compared_until IS 'end of the last hour that was compared; null without a limit';
COMMENT ON COLUMN projector.agreement.compared IS 'rows compared; 0 if there was nothing to compare';
COMMENT ON COLUMN projector.agreement.divergent IS 'executions or hours that are known to differ and were not compared since';
COMMENT ON COLUMN projector.agreement.divergent_since IS 'when the oldest of them was found';
COMMENT ON COLUMN projector.agreement.archived IS 'rows that were left out because retention deleted some of their events';
COMMENT ON COLUMN projector.agreement.detail IS 'what differs, or why there is no verdict';
COMMENT ON COLUMN projector.agreement.verified_at IS 'when it was last compared';
COMMENT ON COLUMN projector.agreement.took_s IS 'seconds that the comparison took';
COMMENT ON COLUMN projector.agreement.age_s IS 'seconds since then';
COMMENT ON COLUMN projector.agreement.all_verified_at IS 'when all of it was last compared';
COMMENT ON COLUMN projector.agreement.range_verified_at IS 'when a range of it was last compared';
COMMENT ON COLUMN projector.agreement.sample_verified_at IS 'when a sample of it was last compared';

CREATE TABLE projector.arrival_hours (
    hour timestamp with time zone NOT NULL,
    shape text NOT NULL COLLATE pg_catalog."C",
    worker_id text NOT NULL COLLATE pg_catalog."C",
    lateness smallint NOT NULL,
    shard smallint NOT NULL,
    events bigint NOT NULL,
    skew_us numeric NOT NULL,
    attempts_defaulted bigint NOT NULL,
    status_from_name bigint NOT NULL,
    time_from_log bigint NOT NULL,
    CONSTRAINT arrival_hours_possible CHECK (((hour >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (hour < '10000-01-01 00:00:00+00'::timestamp with time zone) AND ((shard = 64) OR ((events >= (- ((1)::bigint << 56))) AND (events <= ((1)::bigint << 56)))) AND ((skew_us >= '-1000000000000000000000000000000'::numeric) AND (skew_us <= '1000000000000000000000000000000'::numeric)) AND ((shard = 64) OR ((attempts_defaulted >= (- ((1)::bigint << 56))) AND (attempts_defaulted <= ((1)::bigint << 56)))) AND ((shard = 64) OR ((status_from_name >= (- ((1)::bigint << 56))) AND (status_from_name <= ((1)::bigint << 56)))) AND ((shard = 64) OR ((time_from_log >= (- ((1)::bigint << 56))) AND (time_from_log <= ((1)::bigint << 56))))))
)
WITH (fillfactor='45');
COMMENT ON TABLE projector.arrival_hours IS 'Private: events by hour of recorded_at (of created_at without a Kafka time), shape, worker and lateness. Views: late_arrivals, defaults_by_shape.';
COMMENT ON COLUMN projector.arrival_hours.hour IS 'Start of the hour of recorded_at, or of created_at without it, UTC.';
COMMENT ON COLUMN projector.arrival_hours.shape IS 'Wire shape of the record that brought it.';
COMMENT ON COLUMN projector.arrival_hours.worker_id IS 'Id of the worker; empty if the event names none.';
COMMENT ON COLUMN projector.arrival_hours.lateness IS 'Time from created_at to recorded_at. 0: not known. 1: created_at is more than 1 s later. 2: under 1 s. 3: under 10 s. 4: under 1 min. 5: under 10 min. 6: under 1 h. 7: under 1 day. 8: longer.';
COMMENT ON COLUMN projector.arrival_hours.shard IS 'Counter shard; -1 is the archived part. Only sums over all shards mean anything.';
COMMENT ON COLUMN projector.arrival_hours.events IS 'Number of events.';
COMMENT ON COLUMN projector.arrival_hours.skew_us IS 'Sum of the times from created_at to recorded_at, in microseconds; a time under a second, or not known, counts as 0. Numeric: a bigint would overflow at 29 events of ten thousand years.';
COMMENT ON COLUMN projector.arrival_hours.attempts_defaulted IS 'Number of them that do not say which attempt they are of.';
COMMENT ON COLUMN projector.arrival_hours.status_from_name IS 'Number of them whose status was derived from their type.';
COMMENT ON COLUMN projector.arrival_hours.time_from_log IS 'Number of them whose time is Kafka''s, because the producer gave none.';

CREATE TABLE projector.event_hours (
    hour timestamp with time zone NOT NULL,
    step text NOT NULL COLLATE pg_catalog."C",
    event_type text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    attempts integer NOT NULL,
    shard smallint NOT NULL,
    events bigint NOT NULL,
    without_command bigint DEFAULT 0 NOT NULL,
    attempts_defaulted bigint DEFAULT 0 NOT NULL,
    CONSTRAINT event_hours_possible CHECK (((hour >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (hour < '10000-01-01 00:00:00+00'::timestamp with time zone) AND ((shard = 64) OR ((events >= (- ((1)::bigint << 56))) AND (events <= ((1)::bigint << 56)))) AND ((shard = 64) OR ((without_command >= (- ((1)::bigint << 56))) AND (without_command <= ((1)::bigint << 56)))) AND ((shard = 64) OR ((attempts_defaulted >= (- ((1)::bigint << 56))) AND (attempts_defaulted <= ((1)::bigint << 56))))))
)
WITH (fillfactor='70');
COMMENT ON TABLE projector.event_hours IS 'Private: events by hour of created_at, with their step. Views: event_counts, attempts_by_status, calls_without_command.';
COMMENT ON COLUMN projector.event_hours.hour IS 'Start of the hour, UTC.';
COMMENT ON COLUMN projector.event_hours.step IS 'Name of the step; empty if there is none.';
COMMENT ON COLUMN projector.event_hours.event_type IS 'Type of the event, in the producer''s spelling.';
COMMENT ON COLUMN projector.event_hours.status IS 'Canonical status, in capitals.';
COMMENT ON COLUMN projector.event_hours.attempts IS 'Number of attempts before this one; 0 is the first attempt.';
COMMENT ON COLUMN projector.event_hours.shard IS 'Counter shard; -1 is the archived part. Only sums over all shards mean anything.';
COMMENT ON COLUMN projector.event_hours.events IS 'Number of events.';
COMMENT ON COLUMN projector.event_hours.without_command IS 'Number of them that name no command. Events of calls without a command belong to no call.';
COMMENT ON COLUMN projector.event_hours.attempts_defaulted IS 'Number of them that do not say which attempt they are of.';

CREATE TABLE projector.event_minutes (
    minute timestamp with time zone NOT NULL,
    event_type text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    attempts integer NOT NULL,
    shard smallint NOT NULL,
    events bigint NOT NULL,
    attempts_defaulted bigint DEFAULT 0 NOT NULL,
    CONSTRAINT event_minutes_possible CHECK (((minute >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (minute < '10000-01-01 00:00:00+00'::timestamp with time zone) AND ((shard = 64) OR ((events >= (- ((1)::bigint << 56))) AND (events <= ((1)::bigint << 56)))) AND ((shard = 64) OR ((attempts_defaulted >= (- ((1)::bigint << 56))) AND (attempts_defaulted <= ((1)::bigint << 56))))))
)
WITH (fillfactor='70');
COMMENT ON TABLE projector.event_minutes IS 'Private: events by minute of created_at. View: attempts_by_status.';
COMMENT ON COLUMN projector.event_minutes.minute IS 'Start of the minute, UTC.';
COMMENT ON COLUMN projector.event_minutes.event_type IS 'Type of the event, in the producer''s spelling.';
COMMENT ON COLUMN projector.event_minutes.status IS 'Canonical status, in capitals.';
COMMENT ON COLUMN projector.event_minutes.attempts IS 'Number of attempts before this one; 0 is the first attempt.';
COMMENT ON COLUMN projector.event_minutes.shard IS 'Counter shard; -1 is the archived part. Only sums over all shards mean anything.';
COMMENT ON COLUMN projector.event_minutes.events IS 'Number of events.';
COMMENT ON COLUMN projector.event_minutes.attempts_defaulted IS 'Number of them that do not say which attempt they are of.';

CREATE VIEW projector.attempts_by_status AS
 SELECT event_minutes.minute AS bucket_start,
    60 AS bucket_s,
    event_minutes.event_type,
    event_minutes.status,
    event_minutes.attempts,
    (sum(event_minutes.events))::bigint AS events,
    (sum(event_minutes.attempts_defaulted))::bigint AS attempts_defaulted
   FROM projector.event_minutes
  WHERE (event_minutes.minute >= (projector.hour_of(now()) - '48:00:00'::interval))
  GROUP BY event_minutes.minute, event_minutes.event_type, event_minutes.status, event_minutes.attempts
 HAVING (sum(event_minutes.events) <> (0)::numeric)
UNION ALL
 SELECT event_hours.hour AS bucket_start,
    3600 AS bucket_s,
    event_hours.event_type,
    event_hours.status,
    event_hours.attempts,
    (sum(event_hours.events))::bigint AS events,
    (sum(event_hours.attempts_defaulted))::bigint AS attempts_defaulted
   FROM projector.event_hours
  WHERE (event_hours.hour < (projector.hour_of(now()) - '48:00:00'::interval))
  GROUP BY event_hours.hour, event_hours.event_type, event_hours.status, event_hours.attempts
 HAVING (sum(event_hours.events) <> (0)::numeric);
COMMENT ON VIEW projector.attempts_by_status IS 'How many events of each type ended in which status at which attempt (0 is the first), over time? Each event is in one bucket: of a minute for the last 48 full hours and the running one, of an hour before that. events / bucket_s is the rate per second. The running minute is not complete yet. attempts is the number that the event itself was sent with, and 0 if it was sent with none: attempts_defaulted says how many of these events were. So don''t read calls from it: a retry whose worker sends no number is in the row of attempt 0 here, and under its own number in call_outcomes_by_attempt, which counts calls. Events of the step __orchestrate__ count here. event_counts can leave them out.';
COMMENT ON COLUMN projector.attempts_by_status.bucket_start IS 'start of the minute or hour, UTC';
COMMENT ON COLUMN projector.attempts_by_status.bucket_s IS 'length of the bucket: 60 or 3,600 seconds';
COMMENT ON COLUMN projector.attempts_by_status.event_type IS 'type in the producer''s spelling';
COMMENT ON COLUMN projector.attempts_by_status.status IS 'canonical status';
COMMENT ON COLUMN projector.attempts_by_status.attempts IS 'number of attempts before this one: 0 is the first';
COMMENT ON COLUMN projector.attempts_by_status.events IS 'events';
COMMENT ON COLUMN projector.attempts_by_status.attempts_defaulted IS 'events that do not say which attempt they are of: they count as attempts 0';

CREATE TABLE projector.call_facts (
    execution_id bigint NOT NULL,
    command_id text NOT NULL COLLATE pg_catalog."C",
    attempts integer NOT NULL,
    begun_at timestamp with time zone NOT NULL,
    issued_at timestamp with time zone,
    claimed_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    outcome_ranked text COLLATE pg_catalog."C",
    duration_ranked text COLLATE pg_catalog."C",
    error_ranked text COLLATE pg_catalog."C",
    step_ranked text COLLATE pg_catalog."C",
    worker_ranked text COLLATE pg_catalog."C",
    max_attempts_ranked text COLLATE pg_catalog."C",
    iteration integer,
    failed_before timestamp with time zone,
    is_numbered boolean DEFAULT false NOT NULL,
    may_be_retried boolean DEFAULT false NOT NULL,
    CONSTRAINT call_facts_possible CHECK ((((attempts >= 0) AND (attempts <= 32767)) AND (begun_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (begun_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (issued_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (issued_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (claimed_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (claimed_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (started_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (started_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (finished_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (finished_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (failed_before >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (failed_before < '10000-01-01 00:00:00+00'::timestamp with time zone)))
)
WITH (fillfactor='70');
COMMENT ON TABLE projector.call_facts IS 'Private: what the events of each attempt of a command say about it. Only command.*, call.* and action_* events that name their command are used. Views: calls and others.';
COMMENT ON COLUMN projector.call_facts.execution_id IS 'Id of the execution.';
COMMENT ON COLUMN projector.call_facts.command_id IS 'Id of the command.';
COMMENT ON COLUMN projector.call_facts.attempts IS 'Number of attempts before this one; 0 is the first attempt.';
COMMENT ON COLUMN projector.call_facts.begun_at IS 'created_at of the first event of the attempt.';
COMMENT ON COLUMN projector.call_facts.issued_at IS 'When the command was issued.';
COMMENT ON COLUMN projector.call_facts.claimed_at IS 'When a worker claimed the command.';
COMMENT ON COLUMN projector.call_facts.started_at IS 'When the worker started.';
COMMENT ON COLUMN projector.call_facts.finished_at IS 'When the attempt ended; null while it runs.';
COMMENT ON COLUMN projector.call_facts.outcome_ranked IS 'The rank of the end that decides how the attempt ended (projector.end_rank): a failure before a cancellation before a completion, then the report of the call before that of its command, then the earlier. finished_at is the time in it.';
COMMENT ON COLUMN projector.call_facts.duration_ranked IS 'Who reported it (0 the call, 1 its command), when (projector.encode_time), then the duration in microseconds (projector.encode_bigint). The least wins; projector.call_duration_us reads it.';
COMMENT ON COLUMN projector.call_facts.error_ranked IS 'The rank of a failing end, as outcome_ranked, then its error text, at most 1,000 characters. The least wins; projector.call_error reads it.';
COMMENT ON COLUMN projector.call_facts.step_ranked IS 'Ranked value (projector.encode_time: 17 characters that sort by time, then the value; the least wins): name of the step.';
COMMENT ON COLUMN projector.call_facts.worker_ranked IS 'Ranked value, as step_ranked: id of the worker.';
COMMENT ON COLUMN projector.call_facts.max_attempts_ranked IS 'Ranked value, as step_ranked: allowed attempts (projector.encode_bigint).';
COMMENT ON COLUMN projector.call_facts.iteration IS 'Index in a loop, from 0; null outside of loops.';
COMMENT ON COLUMN projector.call_facts.failed_before IS 'When the failure before a retry ended: of the same command, or of the same step and iteration. Null for first attempts.';
COMMENT ON COLUMN projector.call_facts.is_numbered IS 'Whether an event of the attempt names its number.';
COMMENT ON COLUMN projector.call_facts.may_be_retried IS 'Whether anything hints at a second attempt of the command: a number, or two issues, claims, or starts. If so, the command is rebuilt from all its events with each new one.';

CREATE TABLE projector.execution_facts (
    execution_id bigint NOT NULL,
    events bigint NOT NULL,
    first_at timestamp with time zone,
    begin_at timestamp with time zone,
    last_at timestamp with time zone,
    last_event_ranked text[] COLLATE pg_catalog."C",
    active_at timestamp with time zone,
    highest_attempts integer,
    playbook_ranked text[] COLLATE pg_catalog."C",
    catalog_id bigint,
    parent_execution_id bigint,
    completed bigint NOT NULL,
    completed_at timestamp with time zone,
    failed bigint NOT NULL,
    failed_at timestamp with time zone,
    cancelled bigint NOT NULL,
    cancelled_at timestamp with time zone,
    counted_playbook_ranked text[] COLLATE pg_catalog."C",
    counted_begun timestamp with time zone,
    counted_outcome text COLLATE pg_catalog."C",
    counted_ended timestamp with time zone,
    CONSTRAINT execution_facts_possible CHECK (((first_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (first_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (begin_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (begin_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (last_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (last_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (active_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (active_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (completed_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (completed_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (failed_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (failed_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (cancelled_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (cancelled_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (counted_begun >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (counted_begun < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (counted_ended >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (counted_ended < '10000-01-01 00:00:00+00'::timestamp with time zone)))
)
WITH (fillfactor='70');
COMMENT ON TABLE projector.execution_facts IS 'Private: what the events of each execution say about it, merged. Only lifecycle events end an execution. Views: executions and others.';
COMMENT ON COLUMN projector.execution_facts.execution_id IS 'Id of the execution.';
COMMENT ON COLUMN projector.execution_facts.events IS 'Number of events.';
COMMENT ON COLUMN projector.execution_facts.first_at IS 'created_at of the first event.';
COMMENT ON COLUMN projector.execution_facts.begin_at IS 'created_at of the first event that begins it. Without such an event it is not counted as begun.';
COMMENT ON COLUMN projector.execution_facts.last_at IS 'created_at of the last event.';
COMMENT ON COLUMN projector.execution_facts.last_event_ranked IS 'The last event: its time (projector.encode_time), type, step, and the topic and partition of its record. The greatest value wins.';
COMMENT ON COLUMN projector.execution_facts.active_at IS 'created_at of the last event that is neither an end nor the report of an end (command.completed and similar, workflow.*): those normally follow the end.';
COMMENT ON COLUMN projector.execution_facts.highest_attempts IS 'Highest attempts of its events.';
COMMENT ON COLUMN projector.execution_facts.playbook_ranked IS 'Four texts: 0 if the playbook is the path that a begin event names, or 1 if it is the step of a lifecycle event; the time; the playbook (its first 200 characters, because it is part of keys); its version. The least value wins.';
COMMENT ON COLUMN projector.execution_facts.catalog_id IS 'Id of the playbook in the catalog.';
COMMENT ON COLUMN projector.execution_facts.parent_execution_id IS 'Id of the execution that started this one.';
COMMENT ON COLUMN projector.execution_facts.completed IS 'Number of events that end it as COMPLETED. Each outcome has its own count and first time.';
COMMENT ON COLUMN projector.execution_facts.completed_at IS 'created_at of the first event that ends it as COMPLETED.';
COMMENT ON COLUMN projector.execution_facts.failed IS 'Number of events that end it as FAILED.';
COMMENT ON COLUMN projector.execution_facts.failed_at IS 'created_at of the first event that ends it as FAILED.';
COMMENT ON COLUMN projector.execution_facts.cancelled IS 'Number of events that end it as CANCELLED.';
COMMENT ON COLUMN projector.execution_facts.cancelled_at IS 'created_at of the first event that ends it as CANCELLED.';
COMMENT ON COLUMN projector.execution_facts.counted_playbook_ranked IS 'What roll-ups count the execution and its calls under now: this playbook, and in the next columns hour of the begin, outcome, and hour of the end.';
COMMENT ON COLUMN projector.execution_facts.counted_begun IS 'Hour of its begin that roll-ups count it under.';
COMMENT ON COLUMN projector.execution_facts.counted_outcome IS 'Outcome that roll-ups count it under; empty while it runs.';
COMMENT ON COLUMN projector.execution_facts.counted_ended IS 'Hour of its end that roll-ups count it under.';

CREATE VIEW projector.calls AS
 SELECT hour,
    execution_id,
    ( SELECT projector.playbook_of(execution.playbook_ranked) AS playbook_of
           FROM projector.execution_facts execution
          WHERE (execution.execution_id = facts.execution_id)) AS playbook,
    ( SELECT projector.version_of(execution.playbook_ranked) AS version_of
           FROM projector.execution_facts execution
          WHERE (execution.execution_id = facts.execution_id)) AS version,
    ( SELECT execution.parent_execution_id
           FROM projector.execution_facts execution
          WHERE (execution.execution_id = facts.execution_id)) AS parent_execution_id,
    step,
    command_id,
    iteration,
    attempts,
    status,
    begun_at,
    issued_at,
    claimed_at,
    started_at,
    finished_at,
    ((COALESCE(reported_duration_us, projector.microseconds_between(started_at, finished_at)))::double precision / (1000000)::double precision) AS duration_s,
    ((projector.microseconds_between(issued_at, claimed_at))::double precision / (1000000)::double precision) AS queue_s,
    ((projector.microseconds_between(failed_before, begun_at))::double precision / (1000000)::double precision) AS backoff_s,
    max_attempts,
    ((status = ANY (ARRAY['FAILED'::text, 'ERROR'::text, 'CANCELLED'::text])) AND COALESCE(((attempts + 1) >= max_attempts), false)) AS exhausted,
    worker_id,
    error,
        CASE
            WHEN (status = ANY (ARRAY['FAILED'::text, 'ERROR'::text, 'CANCELLED'::text])) THEN COALESCE(projector.error_class_of(error), ''::text)
            ELSE NULL::text
        END AS error_class,
    attribution
   FROM ( SELECT call_facts.execution_id,
            call_facts.attempts,
            call_facts.iteration,
            call_facts.begun_at,
            call_facts.issued_at,
            call_facts.claimed_at,
            call_facts.started_at,
            call_facts.finished_at,
            call_facts.failed_before,
            projector.hour_of(COALESCE(call_facts.finished_at, call_facts.begun_at)) AS hour,
            call_facts.command_id,
            COALESCE(projector.ranked_value(call_facts.step_ranked), ''::text) AS step,
                CASE
                    WHEN (call_facts.finished_at IS NOT NULL) THEN projector.call_outcome(call_facts.outcome_ranked)
                    WHEN (call_facts.started_at IS NOT NULL) THEN 'RUNNING'::text
                    WHEN (call_facts.claimed_at IS NOT NULL) THEN 'CLAIMED'::text
                    ELSE 'PENDING'::text
                END AS status,
            projector.call_duration_us(call_facts.duration_ranked) AS reported_duration_us,
            projector.call_error(call_facts.error_ranked) AS error,
            projector.ranked_value(call_facts.worker_ranked) AS worker_id,
            projector.decode_bigint(projector.ranked_value(call_facts.max_attempts_ranked)) AS max_attempts,
            projector.call_attribution(call_facts.outcome_ranked, call_facts.is_numbered, call_facts.may_be_retried) AS attribution
           FROM projector.call_facts) facts
  WHERE (step <> '__orchestrate__'::text);
COMMENT ON VIEW projector.calls IS 'How did each attempt of each command go? hour is the hour of its end, or of its begin while it runs. attempts 0 is the first attempt. If several events report the end of one attempt, the worst decides: FAILED or ERROR, then CANCELLED, then COMPLETED. For example, a call whose tool succeeds and whose command then fails is FAILED. An error that a later call of the same command handles still counts as one. A call that waits for a callback is open only if its command.completed says pending_callback, as noetl/worker does from 5.93.0 on. Under an older worker it is COMPLETED from the handover until the callback reports. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.calls.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.calls.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.calls.playbook IS 'path of the playbook; empty while it is not known';
COMMENT ON COLUMN projector.calls.version IS 'version of the playbook, if the event that begins it names it with the path';
COMMENT ON COLUMN projector.calls.parent_execution_id IS 'the execution that started it';
COMMENT ON COLUMN projector.calls.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.calls.command_id IS 'id of the command; null if the producer gave none';
COMMENT ON COLUMN projector.calls.iteration IS 'index in a loop; null outside of loops';
COMMENT ON COLUMN projector.calls.attempts IS 'number of attempts before this one: 0 is the first';
COMMENT ON COLUMN projector.calls.status IS 'COMPLETED, FAILED, ERROR or CANCELLED; before that PENDING, CLAIMED or RUNNING';
COMMENT ON COLUMN projector.calls.begun_at IS 'when the first event of the attempt happened';
COMMENT ON COLUMN projector.calls.issued_at IS 'when the command was issued';
COMMENT ON COLUMN projector.calls.claimed_at IS 'when a worker took it';
COMMENT ON COLUMN projector.calls.started_at IS 'when the worker began';
COMMENT ON COLUMN projector.calls.finished_at IS 'when it ended; null while it runs';
COMMENT ON COLUMN projector.calls.duration_s IS 'seconds it took: as reported, or else from its start to its end';
COMMENT ON COLUMN projector.calls.queue_s IS 'seconds from issued to claimed';
COMMENT ON COLUMN projector.calls.backoff_s IS 'seconds from the failure before this retry to its begin; null for a first attempt';
COMMENT ON COLUMN projector.calls.max_attempts IS 'number of attempts that are allowed in all';
COMMENT ON COLUMN projector.calls.exhausted IS 'whether it failed and was the last allowed attempt';
COMMENT ON COLUMN projector.calls.worker_id IS 'the worker';
COMMENT ON COLUMN projector.calls.error IS 'error text, at most 1,000 characters; null if it completed';
COMMENT ON COLUMN projector.calls.error_class IS 'error text without quoted parts, e-mail addresses and ids, which are words with a digit or of eight or more letters from a to f; codes stay; null if it did not fail';
COMMENT ON COLUMN projector.calls.attribution IS 'how the number of the attempt is known. declared: the end that decides names it (or, while it runs, any event). only: nothing hints at another attempt. inferred: from what else the events say';

CREATE VIEW projector.attempts_in_order AS
 SELECT facts.execution_id,
    projector.hour_of(facts.first_at) AS hour,
    tries.step,
    tries.iteration,
    tries.ordinal,
    tries.attempts,
    tries.command_id,
    tries.begun_at,
    tries.status
   FROM (projector.execution_facts facts
     CROSS JOIN LATERAL ( SELECT calls.step,
            calls.iteration,
            calls.attempts,
            calls.command_id,
            calls.begun_at,
            calls.status,
            (row_number() OVER (PARTITION BY calls.step, calls.iteration ORDER BY calls.begun_at, calls.attempts, calls.command_id) - 1) AS ordinal
           FROM projector.calls
          WHERE (calls.execution_id = facts.execution_id)) tries);
COMMENT ON VIEW projector.attempts_in_order IS 'Which attempts were made of each step and iteration of an execution, in order? ordinal counts them from 0, attempts is what their events declare. If ordinal is greater, a command was issued again, or a loop does not number its iterations. hour is the hour of the first event. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.attempts_in_order.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.attempts_in_order.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.attempts_in_order.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.attempts_in_order.iteration IS 'index in a loop; null outside of loops';
COMMENT ON COLUMN projector.attempts_in_order.ordinal IS 'number of the attempt of this step and iteration, by time, from 0';
COMMENT ON COLUMN projector.attempts_in_order.attempts IS 'number of attempts before this one: 0 is the first';
COMMENT ON COLUMN projector.attempts_in_order.command_id IS 'id of the command; null if the producer gave none';
COMMENT ON COLUMN projector.attempts_in_order.begun_at IS 'when the first event of the attempt happened';
COMMENT ON COLUMN projector.attempts_in_order.status IS 'as in calls';

CREATE TABLE projector.before (
    event_id bigint NOT NULL,
    execution_id bigint NOT NULL,
    event_type text NOT NULL,
    step text NOT NULL,
    status text NOT NULL,
    attempts integer NOT NULL,
    max_attempts integer,
    created_at timestamp with time zone NOT NULL,
    worker_id text,
    command_id text,
    iteration integer,
    node_type text,
    catalog_id bigint,
    parent_event_id bigint,
    parent_execution_id bigint,
    duration double precision,
    error text,
    context jsonb,
    result jsonb,
    meta jsonb NOT NULL,
    extra jsonb,
    coercions jsonb,
    evidence smallint NOT NULL,
    shape text NOT NULL,
    normalizer_version integer NOT NULL,
    source_topic text NOT NULL,
    source_incarnation integer NOT NULL,
    source_partition integer NOT NULL,
    source_offset bigint NOT NULL,
    source_index integer NOT NULL,
    headers jsonb,
    trace_id text,
    recorded_at timestamp with time zone,
    merge_flags smallint NOT NULL,
    batch_id bigint NOT NULL,
    ingested_at timestamp with time zone NOT NULL,
    CONSTRAINT before_is_empty CHECK (false)
);
COMMENT ON TABLE projector.before IS 'Private: always empty. Stands in for the rows before a statement if it has none.';
COMMENT ON COLUMN projector.before.event_id IS 'Id of the event.';
COMMENT ON COLUMN projector.before.execution_id IS 'Id of the execution.';
COMMENT ON COLUMN projector.before.event_type IS 'Type of the event, in the producer''s spelling.';
COMMENT ON COLUMN projector.before.step IS 'Name of the step; empty if there is none.';
COMMENT ON COLUMN projector.before.status IS 'Canonical status, in capitals.';
COMMENT ON COLUMN projector.before.attempts IS 'Number of attempts before this one; 0 is the first attempt.';
COMMENT ON COLUMN projector.before.max_attempts IS 'Number of attempts that are allowed in all; null if not declared.';
COMMENT ON COLUMN projector.before.created_at IS 'When the event happened, by the producer''s clock.';
COMMENT ON COLUMN projector.before.worker_id IS 'Id of the worker.';
COMMENT ON COLUMN projector.before.command_id IS 'Id of the command; null if the event names none.';
COMMENT ON COLUMN projector.before.iteration IS 'Index in a loop, from 0; null outside of loops.';
COMMENT ON COLUMN projector.before.node_type IS 'Kind of step, in the producer''s words.';
COMMENT ON COLUMN projector.before.catalog_id IS 'Id of the playbook in the catalog.';
COMMENT ON COLUMN projector.before.parent_event_id IS 'Id of the event that caused this one.';
COMMENT ON COLUMN projector.before.parent_execution_id IS 'Id of the execution that started this one.';
COMMENT ON COLUMN projector.before.duration IS 'Seconds that the call took, as the producer measured them.';
COMMENT ON COLUMN projector.before.error IS 'Error text; null if there is none.';
COMMENT ON COLUMN projector.before.context IS 'The producer''s context, as JSON.';
COMMENT ON COLUMN projector.before.result IS 'The producer''s result, as JSON.';
COMMENT ON COLUMN projector.before.meta IS 'The producer''s meta object, with the canonical attempts in it.';
COMMENT ON COLUMN projector.before.extra IS 'What the producer sent beyond the envelope, under its own names. conflicting_values holds what another report of the same event had instead.';
COMMENT ON COLUMN projector.before.coercions IS 'Values whose meaning was changed or guessed, with the original. Null if there are none.';
COMMENT ON COLUMN projector.before.evidence IS 'Three digits that say where values came from. Hundreds, attempts: 2 declared, 1 counted from one by the producer, 0 default. Tens, status: 2 a failure that was declared or found in the result, 1 another declared status, 0 derived from the event type. Ones, created_at: 2 from the producer, 1 from the snowflake id, 0 from Kafka.';
COMMENT ON COLUMN projector.before.shape IS 'Wire shape of the record that brought it.';
COMMENT ON COLUMN projector.before.normalizer_version IS 'Version of the rules that made the row.';
COMMENT ON COLUMN projector.before.source_topic IS 'Coordinates of the record that stored the row: the Kafka topic; file: or pg: and a name for what a job read from there; sql for a row inserted by hand. A later report of the event does not change them.';
COMMENT ON COLUMN projector.before.source_incarnation IS 'Coordinates of the record: how often the topic was deleted and created again.';
COMMENT ON COLUMN projector.before.source_partition IS 'Coordinates of the record: the partition.';
COMMENT ON COLUMN projector.before.source_offset IS 'Coordinates of the record: its offset.';
COMMENT ON COLUMN projector.before.source_index IS 'Coordinates of the event: its index in the record, from 0.';
COMMENT ON COLUMN projector.before.headers IS 'Headers of the record, redacted.';
COMMENT ON COLUMN projector.before.trace_id IS 'Trace that the record belongs to, from its traceparent header.';
COMMENT ON COLUMN projector.before.recorded_at IS 'Time of the record in Kafka: the producer''s clock under CreateTime, the broker''s under LogAppendTime; null without one.';
COMMENT ON COLUMN projector.before.merge_flags IS 'Bits. 1: a report that named no step was merged into a row that has one. 2: the same for the command. 4: a report changed the row. 8: another event has the same event_id. 16: another event of the same execution and class has it, or the reports of this row name two steps. 32: another report of the event lies in another log, or before this row in its log.';
COMMENT ON COLUMN projector.before.batch_id IS 'Number of the transaction that wrote the row, from a sequence.';
COMMENT ON COLUMN projector.before.ingested_at IS 'When the row was stored.';

CREATE TABLE projector.call_hours (
    hour timestamp with time zone NOT NULL,
    playbook text NOT NULL COLLATE pg_catalog."C",
    step text NOT NULL COLLATE pg_catalog."C",
    attempts integer NOT NULL,
    status text NOT NULL COLLATE pg_catalog."C",
    shard smallint NOT NULL,
    calls bigint NOT NULL,
    exhausted bigint NOT NULL,
    inferred bigint DEFAULT 0 NOT NULL,
    CONSTRAINT call_hours_possible CHECK (((hour >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (hour < '10000-01-01 00:00:00+00'::timestamp with time zone) AND ((shard = 64) OR ((calls >= (- ((1)::bigint << 56))) AND (calls <= ((1)::bigint << 56)))) AND ((shard = 64) OR ((exhausted >= (- ((1)::bigint << 56))) AND (exhausted <= ((1)::bigint << 56)))) AND ((shard = 64) OR ((inferred >= (- ((1)::bigint << 56))) AND (inferred <= ((1)::bigint << 56))))))
)
WITH (fillfactor='70');
COMMENT ON TABLE projector.call_hours IS 'Private: attempts by the hour of their end, playbook, step and status. View: call_outcomes_by_attempt.';
COMMENT ON COLUMN projector.call_hours.hour IS 'Start of the hour, UTC.';
COMMENT ON COLUMN projector.call_hours.playbook IS 'Path of the playbook; empty while it is not known.';
COMMENT ON COLUMN projector.call_hours.step IS 'Name of the step; empty if there is none.';
COMMENT ON COLUMN projector.call_hours.attempts IS 'Number of attempts before this one; 0 is the first attempt.';
COMMENT ON COLUMN projector.call_hours.status IS 'Canonical status, in capitals.';
COMMENT ON COLUMN projector.call_hours.shard IS 'Counter shard; -1 is the archived part. Only sums over all shards mean anything.';
COMMENT ON COLUMN projector.call_hours.calls IS 'Number of finished attempts (rows of projector.calls).';
COMMENT ON COLUMN projector.call_hours.exhausted IS 'Number of failed attempts that were the last allowed one.';
COMMENT ON COLUMN projector.call_hours.inferred IS 'Number of attempts whose attribution in calls is inferred.';

CREATE VIEW projector.call_outcomes_by_attempt AS
 SELECT hour,
    playbook,
    step,
    attempts,
    status,
    calls,
        CASE
            WHEN (status = 'COMPLETED'::text) THEN calls
            ELSE (0)::bigint
        END AS succeeded,
        CASE
            WHEN (status <> 'COMPLETED'::text) THEN calls
            ELSE (0)::bigint
        END AS failed,
    exhausted,
    inferred
   FROM projector.call_hours
  WHERE ((calls <> 0) OR (exhausted <> 0) OR (inferred <> 0));
COMMENT ON VIEW projector.call_outcomes_by_attempt IS 'How did calls end, by attempt? Each row counts attempts by the hour of their end. failed are FAILED, ERROR and CANCELLED; exhausted are the failed ones that were the last allowed attempt. inferred are those whose attribution in calls is inferred. Rates are sums divided by sums. Rows are parts, as in event_counts. For minutes, count calls by finished_at. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.call_outcomes_by_attempt.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.call_outcomes_by_attempt.playbook IS 'path of the playbook; empty while it is not known';
COMMENT ON COLUMN projector.call_outcomes_by_attempt.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.call_outcomes_by_attempt.attempts IS 'number of attempts before this one: 0 is the first';
COMMENT ON COLUMN projector.call_outcomes_by_attempt.status IS 'canonical status';
COMMENT ON COLUMN projector.call_outcomes_by_attempt.calls IS 'number of finished attempts (rows of projector.calls)';
COMMENT ON COLUMN projector.call_outcomes_by_attempt.succeeded IS 'attempts that completed';
COMMENT ON COLUMN projector.call_outcomes_by_attempt.failed IS 'attempts that ended FAILED, ERROR or CANCELLED';
COMMENT ON COLUMN projector.call_outcomes_by_attempt.exhausted IS 'failed attempts that were the last allowed one';
COMMENT ON COLUMN projector.call_outcomes_by_attempt.inferred IS 'attempts whose attribution in calls is inferred';

CREATE TABLE projector.call_times (
    hour timestamp with time zone NOT NULL,
    measure text NOT NULL COLLATE pg_catalog."C",
    playbook text NOT NULL COLLATE pg_catalog."C",
    step text NOT NULL COLLATE pg_catalog."C",
    attempts integer NOT NULL,
    status text NOT NULL COLLATE pg_catalog."C",
    bucket smallint NOT NULL,
    shard smallint NOT NULL,
    calls bigint NOT NULL,
    CONSTRAINT call_times_measure CHECK ((measure = ANY (ARRAY['duration'::text, 'queue'::text, 'backoff'::text]))),
    CONSTRAINT call_times_possible CHECK (((hour >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (hour < '10000-01-01 00:00:00+00'::timestamp with time zone) AND ((shard = 64) OR ((calls >= (- ((1)::bigint << 56))) AND (calls <= ((1)::bigint << 56))))))
)
WITH (fillfactor='70');
COMMENT ON TABLE projector.call_times IS 'Private: histograms of how long attempts took (duration), waited to be claimed (queue), and waited after the failure before them (backoff), by the hour of their end. View: call_time_histogram.';
COMMENT ON COLUMN projector.call_times.hour IS 'Start of the hour, UTC.';
COMMENT ON COLUMN projector.call_times.measure IS 'What was measured: duration, queue or backoff.';
COMMENT ON COLUMN projector.call_times.playbook IS 'Path of the playbook; empty while it is not known.';
COMMENT ON COLUMN projector.call_times.step IS 'Name of the step; empty if there is none.';
COMMENT ON COLUMN projector.call_times.attempts IS 'Number of attempts before this one; 0 is the first attempt.';
COMMENT ON COLUMN projector.call_times.status IS 'Canonical status, in capitals.';
COMMENT ON COLUMN projector.call_times.bucket IS 'Bucket b holds 2^(b/8) up to 2^((b+1)/8) microseconds, -1 holds zero (projector.bucket_of).';
COMMENT ON COLUMN projector.call_times.shard IS 'Counter shard; -1 is the archived part. Only sums over all shards mean anything.';
COMMENT ON COLUMN projector.call_times.calls IS 'Number of finished attempts (rows of projector.calls).';

CREATE VIEW projector.call_time_histogram AS
 SELECT hour,
    measure,
    playbook,
    step,
    attempts,
    status,
    bucket,
    calls
   FROM projector.call_times
  WHERE (calls <> 0);
COMMENT ON VIEW projector.call_time_histogram IS 'How long do calls take (measure duration), how long do commands wait from issued to claimed (queue), and how long do retries wait after the failure before them (backoff)? By the hour of their end; what still waits is in open_calls. projector.percentile(0.95, bucket, calls) gives seconds, over any hours and keys; projector.seconds_of(bucket) is the middle of a bucket, at most 4.5 % off. Rows are parts, as in event_counts. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.call_time_histogram.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.call_time_histogram.measure IS 'what was measured: duration, queue or backoff';
COMMENT ON COLUMN projector.call_time_histogram.playbook IS 'path of the playbook; empty while it is not known';
COMMENT ON COLUMN projector.call_time_histogram.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.call_time_histogram.attempts IS 'number of attempts before this one: 0 is the first';
COMMENT ON COLUMN projector.call_time_histogram.status IS 'canonical status';
COMMENT ON COLUMN projector.call_time_histogram.bucket IS 'number of the bucket in the histogram: from 2^(bucket/8) microseconds';
COMMENT ON COLUMN projector.call_time_histogram.calls IS 'number of finished attempts (rows of projector.calls)';

CREATE TABLE projector.event_kinds (
    event_type text NOT NULL,
    event_class text NOT NULL,
    subject text NOT NULL,
    role text NOT NULL,
    outcome text NOT NULL,
    CONSTRAINT event_kinds_outcome CHECK ((outcome = ANY (ARRAY[''::text, 'COMPLETED'::text, 'FAILED'::text, 'CANCELLED'::text]))),
    CONSTRAINT event_kinds_role CHECK ((role = ANY (ARRAY['begins'::text, 'ends'::text, 'issued'::text, 'claimed'::text, 'started'::text, 'ended'::text, 'done'::text]))),
    CONSTRAINT event_kinds_subject CHECK ((subject = ANY (ARRAY['execution'::text, 'call'::text])))
);
COMMENT ON TABLE projector.event_kinds IS 'Private: what an event means for an execution or a call, by its type in every spelling. If both done and ended events exist, done decides.';
COMMENT ON COLUMN projector.event_kinds.event_type IS 'Type of the event, in the producer''s spelling.';
COMMENT ON COLUMN projector.event_kinds.event_class IS 'The one type that all its spellings stand for.';
COMMENT ON COLUMN projector.event_kinds.subject IS 'What the event is about: execution or call.';
COMMENT ON COLUMN projector.event_kinds.role IS 'An execution begins or ends. Of a call: its command was issued, claimed, started or ended; done: the call itself reported its end.';
COMMENT ON COLUMN projector.event_kinds.outcome IS 'Outcome that the type alone implies; empty if none.';

CREATE VIEW projector.calls_without_command AS
 SELECT hour,
    step,
    event_type,
    status,
    (sum(without_command))::bigint AS events
   FROM projector.event_hours
  WHERE (event_type IN ( SELECT event_kinds.event_type
           FROM projector.event_kinds
          WHERE (event_kinds.subject = 'call'::text)))
  GROUP BY hour, step, event_type, status
 HAVING (sum(without_command) <> (0)::numeric);
COMMENT ON VIEW projector.calls_without_command IS 'How many events of calls name no command? They are counted as events, and belong to no call.';
COMMENT ON COLUMN projector.calls_without_command.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.calls_without_command.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.calls_without_command.event_type IS 'type in the producer''s spelling';
COMMENT ON COLUMN projector.calls_without_command.status IS 'canonical status';
COMMENT ON COLUMN projector.calls_without_command.events IS 'events';

CREATE TABLE projector.coercion_hours (
    hour timestamp with time zone NOT NULL,
    shape text NOT NULL COLLATE pg_catalog."C",
    rule text NOT NULL COLLATE pg_catalog."C",
    shard smallint NOT NULL,
    coercions bigint NOT NULL,
    CONSTRAINT coercion_hours_possible CHECK (((hour >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (hour < '10000-01-01 00:00:00+00'::timestamp with time zone) AND ((shard = 64) OR ((coercions >= (- ((1)::bigint << 56))) AND (coercions <= ((1)::bigint << 56))))))
)
WITH (fillfactor='70');
COMMENT ON TABLE projector.coercion_hours IS 'Private: coercions by hour of recorded_at, shape and rule. View: coercions_by_rule.';
COMMENT ON COLUMN projector.coercion_hours.hour IS 'Start of the hour of recorded_at, or of created_at without it, UTC.';
COMMENT ON COLUMN projector.coercion_hours.shape IS 'Wire shape of the record that brought it.';
COMMENT ON COLUMN projector.coercion_hours.rule IS 'Name of the rule that changed or guessed the value.';
COMMENT ON COLUMN projector.coercion_hours.shard IS 'Counter shard; -1 is the archived part. Only sums over all shards mean anything.';
COMMENT ON COLUMN projector.coercion_hours.coercions IS 'Number of coercions.';

CREATE VIEW projector.coercions_by_rule AS
 SELECT hour,
    shape,
    rule,
    (sum(coercions))::bigint AS coercions
   FROM projector.coercion_hours
  GROUP BY hour, shape, rule
 HAVING (sum(coercions) <> (0)::numeric);
COMMENT ON VIEW projector.coercions_by_rule IS 'Which values had their meaning changed or guessed, by which rule, in which shape? By the hour in which Kafka received them.';
COMMENT ON COLUMN projector.coercions_by_rule.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.coercions_by_rule.shape IS 'wire shape of the record';
COMMENT ON COLUMN projector.coercions_by_rule.rule IS 'name of the rule';
COMMENT ON COLUMN projector.coercions_by_rule.coercions IS 'values whose meaning was changed or guessed';

CREATE VIEW projector.completed_with_failures AS
 SELECT projector.hour_of(LEAST(facts.completed_at, facts.failed_at, facts.cancelled_at)) AS hour,
    facts.execution_id,
    projector.playbook_of(facts.playbook_ranked) AS playbook,
    LEAST(facts.completed_at, facts.failed_at, facts.cancelled_at) AS ended_at,
    failures.failed_calls,
    failures.last_failed_at
   FROM (projector.execution_facts facts
     CROSS JOIN LATERAL ( SELECT count(*) AS failed_calls,
            max(failure.finished_at) AS last_failed_at
           FROM projector.call_facts failure
          WHERE ((failure.execution_id = facts.execution_id) AND projector.call_failed(failure.outcome_ranked) AND (COALESCE(projector.ranked_value(failure.step_ranked), ''::text) <> '__orchestrate__'::text))) failures)
  WHERE ((projector.outcome_of(facts.completed_at, facts.failed_at, facts.cancelled_at) = 'COMPLETED'::text) AND (failures.failed_calls > 0));
COMMENT ON VIEW projector.completed_with_failures IS 'Which executions completed although one of their calls failed? A failure counts even if a retry succeeded. hour is the hour of the end. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.completed_with_failures.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.completed_with_failures.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.completed_with_failures.playbook IS 'path of the playbook; empty while it is not known';
COMMENT ON COLUMN projector.completed_with_failures.ended_at IS 'the earliest lifecycle end; null while it runs';
COMMENT ON COLUMN projector.completed_with_failures.failed_calls IS 'its attempts that ended FAILED, ERROR or CANCELLED';
COMMENT ON COLUMN projector.completed_with_failures.last_failed_at IS 'when the last of them failed';

CREATE VIEW projector.contradicting_executions AS
 SELECT hour,
    execution_id,
    playbook,
    status,
    ended_at,
    completed_at,
    failed_at,
    cancelled_at,
    active_at AS last_activity_at,
    contradicting,
    active_after_end
   FROM ( SELECT projector.hour_of(LEAST(execution_facts.completed_at, execution_facts.failed_at, execution_facts.cancelled_at)) AS hour,
            execution_facts.execution_id,
            projector.playbook_of(execution_facts.playbook_ranked) AS playbook,
            projector.outcome_of(execution_facts.completed_at, execution_facts.failed_at, execution_facts.cancelled_at) AS status,
            LEAST(execution_facts.completed_at, execution_facts.failed_at, execution_facts.cancelled_at) AS ended_at,
            execution_facts.completed_at,
            execution_facts.failed_at,
            execution_facts.cancelled_at,
            execution_facts.active_at,
            (((((execution_facts.completed > 0))::integer + ((execution_facts.failed > 0))::integer) + ((execution_facts.cancelled > 0))::integer) > 1) AS contradicting,
            COALESCE((execution_facts.active_at > LEAST(execution_facts.completed_at, execution_facts.failed_at, execution_facts.cancelled_at)), false) AS active_after_end
           FROM projector.execution_facts) facts
  WHERE (contradicting OR active_after_end);
COMMENT ON VIEW projector.contradicting_executions IS 'Which executions ended in two ways, or continued after their end? hour is the hour of the end. A command.completed after the end is normal and does not count.';
COMMENT ON COLUMN projector.contradicting_executions.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.contradicting_executions.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.contradicting_executions.playbook IS 'path of the playbook; empty while it is not known';
COMMENT ON COLUMN projector.contradicting_executions.status IS 'canonical status';
COMMENT ON COLUMN projector.contradicting_executions.ended_at IS 'the earliest lifecycle end; null while it runs';
COMMENT ON COLUMN projector.contradicting_executions.completed_at IS 'the first event that ends it as COMPLETED';
COMMENT ON COLUMN projector.contradicting_executions.failed_at IS 'the first event that ends it as FAILED';
COMMENT ON COLUMN projector.contradicting_executions.cancelled_at IS 'the first event that ends it as CANCELLED';
COMMENT ON COLUMN projector.contradicting_executions.last_activity_at IS 'the last event that is neither an end nor the report of one';
COMMENT ON COLUMN projector.contradicting_executions.contradicting IS 'whether its ends disagree';
COMMENT ON COLUMN projector.contradicting_executions.active_after_end IS 'whether anything but a report of the end is later than ended_at';

CREATE VIEW projector.counted_calls AS
 SELECT execution_id,
    command_id,
    attempts,
    step,
    begun_at,
    finished_at,
    status,
    worker_id,
    error,
    COALESCE(reported_duration_us, projector.microseconds_between(started_at, finished_at)) AS duration_us,
    projector.microseconds_between(issued_at, claimed_at) AS queue_us,
    projector.microseconds_between(failed_before, begun_at) AS backoff_us,
    COALESCE(((status <> 'COMPLETED'::text) AND ((attempts + 1) >= max_attempts)), false) AS exhausted,
    (attribution = 'inferred'::text) AS inferred
   FROM ( SELECT call_facts.execution_id,
            call_facts.command_id,
            call_facts.attempts,
            call_facts.begun_at,
            call_facts.issued_at,
            call_facts.claimed_at,
            call_facts.started_at,
            call_facts.finished_at,
            call_facts.failed_before,
            COALESCE(projector.ranked_value(call_facts.step_ranked), ''::text) AS step,
            COALESCE(projector.call_outcome(call_facts.outcome_ranked), ''::text) AS status,
            projector.call_duration_us(call_facts.duration_ranked) AS reported_duration_us,
            projector.call_error(call_facts.error_ranked) AS error,
            COALESCE(projector.ranked_value(call_facts.worker_ranked), ''::text) AS worker_id,
            projector.decode_bigint(projector.ranked_value(call_facts.max_attempts_ranked)) AS max_attempts,
            projector.call_attribution(call_facts.outcome_ranked, call_facts.is_numbered, call_facts.may_be_retried) AS attribution
           FROM projector.call_facts) reported
  WHERE ((finished_at IS NOT NULL) AND (step <> '__orchestrate__'::text));
COMMENT ON VIEW projector.counted_calls IS 'Private: what do roll-ups count each attempt under? Read projector.calls instead: this view is granted to nobody and may change.';
COMMENT ON COLUMN projector.counted_calls.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.counted_calls.command_id IS 'id of the command; null if the producer gave none';
COMMENT ON COLUMN projector.counted_calls.attempts IS 'number of attempts before this one: 0 is the first';
COMMENT ON COLUMN projector.counted_calls.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.counted_calls.begun_at IS 'when the first event of the attempt happened';
COMMENT ON COLUMN projector.counted_calls.finished_at IS 'when it ended; null while it runs';
COMMENT ON COLUMN projector.counted_calls.status IS 'canonical status';
COMMENT ON COLUMN projector.counted_calls.worker_id IS 'the worker';
COMMENT ON COLUMN projector.counted_calls.error IS 'error text, at most 1,000 characters; null if it completed';
COMMENT ON COLUMN projector.counted_calls.exhausted IS 'whether it failed and was the last allowed attempt';
COMMENT ON COLUMN projector.counted_calls.inferred IS 'whether attribution in calls is inferred';

CREATE VIEW projector.defaults_by_shape AS
 SELECT hour,
    shape,
    (sum(events))::bigint AS events,
    (sum(attempts_defaulted))::bigint AS attempts_defaulted,
    (sum(status_from_name))::bigint AS status_from_name,
    (sum(time_from_log))::bigint AS time_from_log
   FROM projector.arrival_hours
  GROUP BY hour, shape
 HAVING (sum(events) <> (0)::numeric);
COMMENT ON VIEW projector.defaults_by_shape IS 'How much did producers leave out, by shape: the attempt, the status, the time? Each column counts events, by the hour in which Kafka received them.';
COMMENT ON COLUMN projector.defaults_by_shape.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.defaults_by_shape.shape IS 'wire shape of the record';
COMMENT ON COLUMN projector.defaults_by_shape.events IS 'events';
COMMENT ON COLUMN projector.defaults_by_shape.attempts_defaulted IS 'events that do not say which attempt they are of: they count as attempts 0';
COMMENT ON COLUMN projector.defaults_by_shape.status_from_name IS 'events whose status was derived from their type';
COMMENT ON COLUMN projector.defaults_by_shape.time_from_log IS 'events whose time is Kafka''s, because the producer gave none';

ALTER TABLE projector.divergences ALTER COLUMN divergence_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME projector.divergences_divergence_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE VIEW projector.drift AS
 SELECT shape,
    field,
    type,
    kind,
    source_topic AS topic,
    source_incarnation AS incarnation,
    source_partition AS partition,
    source_offset,
    example,
    found_at,
    projector.hour_of(found_at) AS hour
   FROM normalizer.drift_findings;
COMMENT ON VIEW projector.drift IS 'What do producers send that is not documented, or has another type than documented, since when, and where is an example? A sample: only quiet traffic is examined completely.';
COMMENT ON COLUMN projector.drift.shape IS 'wire shape of the record';
COMMENT ON COLUMN projector.drift.field IS 'top-level key';
COMMENT ON COLUMN projector.drift.type IS 'object, list, text, number or bool';
COMMENT ON COLUMN projector.drift.kind IS 'unknown_key or changed_type';
COMMENT ON COLUMN projector.drift.topic IS 'Kafka topic';
COMMENT ON COLUMN projector.drift.incarnation IS 'how often the topic was deleted and created again';
COMMENT ON COLUMN projector.drift.partition IS 'Kafka partition';
COMMENT ON COLUMN projector.drift.source_offset IS 'offset where it was first seen';
COMMENT ON COLUMN projector.drift.example IS 'the value there, redacted and shortened';
COMMENT ON COLUMN projector.drift.found_at IS 'when it was first seen';
COMMENT ON COLUMN projector.drift.hour IS 'the hour of found_at';

CREATE VIEW projector.error_groups AS
 WITH RECURSIVE class AS (
        ( SELECT projector.error_class_of(COALESCE(projector.call_error(call_facts.error_ranked), ''::text)) AS error_class
           FROM projector.call_facts
          WHERE ((call_facts.finished_at IS NOT NULL) AND projector.call_failed(call_facts.outcome_ranked))
          ORDER BY (projector.error_class_of(COALESCE(projector.call_error(call_facts.error_ranked), ''::text)))
         LIMIT 1)
        UNION ALL
         SELECT ( SELECT projector.error_class_of(COALESCE(projector.call_error(call_facts.error_ranked), ''::text)) AS error_class_of
                   FROM projector.call_facts
                  WHERE ((call_facts.finished_at IS NOT NULL) AND projector.call_failed(call_facts.outcome_ranked) AND (projector.error_class_of(COALESCE(projector.call_error(call_facts.error_ranked), ''::text)) > class_1.error_class))
                  ORDER BY (projector.error_class_of(COALESCE(projector.call_error(call_facts.error_ranked), ''::text)))
                 LIMIT 1) AS error_class_of
           FROM class class_1
          WHERE (class_1.error_class IS NOT NULL)
        )
 SELECT class.error_class,
    first.finished_at AS first_seen_at,
    last.finished_at AS last_seen_at,
    last.execution_id,
    last.step,
    last.attempts,
    last.error
   FROM ((class
     CROSS JOIN LATERAL ( SELECT call_facts.finished_at
           FROM projector.call_facts
          WHERE ((call_facts.finished_at IS NOT NULL) AND projector.call_failed(call_facts.outcome_ranked) AND (projector.error_class_of(COALESCE(projector.call_error(call_facts.error_ranked), ''::text)) = class.error_class) AND (COALESCE(projector.ranked_value(call_facts.step_ranked), ''::text) <> '__orchestrate__'::text))
          ORDER BY call_facts.finished_at
         LIMIT 1) first)
     CROSS JOIN LATERAL ( SELECT call_facts.finished_at,
            call_facts.execution_id,
            call_facts.attempts,
            projector.call_error(call_facts.error_ranked) AS error,
            COALESCE(projector.ranked_value(call_facts.step_ranked), ''::text) AS step
           FROM projector.call_facts
          WHERE ((call_facts.finished_at IS NOT NULL) AND projector.call_failed(call_facts.outcome_ranked) AND (projector.error_class_of(COALESCE(projector.call_error(call_facts.error_ranked), ''::text)) = class.error_class) AND (COALESCE(projector.ranked_value(call_facts.step_ranked), ''::text) <> '__orchestrate__'::text))
          ORDER BY call_facts.finished_at DESC
         LIMIT 1) last);
COMMENT ON VIEW projector.error_groups IS 'Which error classes exist, when did each occur first and last, and where is a sample? Of the stored calls; the sample is the latest. failures_by_error has the counts. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.error_groups.error_class IS 'error text without quoted parts, e-mail addresses and ids, which are words with a digit or of eight or more letters from a to f; codes stay; null if it did not fail';
COMMENT ON COLUMN projector.error_groups.first_seen_at IS 'when the first of them failed';
COMMENT ON COLUMN projector.error_groups.last_seen_at IS 'when the last of them failed';
COMMENT ON COLUMN projector.error_groups.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.error_groups.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.error_groups.attempts IS 'number of attempts before this one: 0 is the first';
COMMENT ON COLUMN projector.error_groups.error IS 'error text, at most 1,000 characters; null if it completed';

CREATE TABLE projector.error_hours (
    hour timestamp with time zone NOT NULL,
    step text NOT NULL COLLATE pg_catalog."C",
    attempts integer NOT NULL,
    status text NOT NULL COLLATE pg_catalog."C",
    error_class text NOT NULL COLLATE pg_catalog."C",
    shard smallint NOT NULL,
    calls bigint NOT NULL,
    CONSTRAINT error_hours_possible CHECK (((hour >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (hour < '10000-01-01 00:00:00+00'::timestamp with time zone) AND ((shard = 64) OR ((calls >= (- ((1)::bigint << 56))) AND (calls <= ((1)::bigint << 56))))))
)
WITH (fillfactor='70');
COMMENT ON TABLE projector.error_hours IS 'Private: failed attempts by error class and the hour of their end. View: failures_by_error.';
COMMENT ON COLUMN projector.error_hours.hour IS 'Start of the hour, UTC.';
COMMENT ON COLUMN projector.error_hours.step IS 'Name of the step; empty if there is none.';
COMMENT ON COLUMN projector.error_hours.attempts IS 'Number of attempts before this one; 0 is the first attempt.';
COMMENT ON COLUMN projector.error_hours.status IS 'Canonical status, in capitals.';
COMMENT ON COLUMN projector.error_hours.error_class IS 'Error text without ids, e-mail addresses and quoted parts (projector.error_class_of).';
COMMENT ON COLUMN projector.error_hours.shard IS 'Counter shard; -1 is the archived part. Only sums over all shards mean anything.';
COMMENT ON COLUMN projector.error_hours.calls IS 'Number of finished attempts (rows of projector.calls).';

CREATE VIEW projector.event_counts AS
 SELECT hour,
    step,
    event_type,
    status,
    attempts,
    events,
    attempts_defaulted
   FROM projector.event_hours
  WHERE ((events <> 0) OR (attempts_defaulted <> 0));
COMMENT ON VIEW projector.event_counts IS 'How many events of each step and type ended in which status at which attempt, by hour? Rows are parts: several have the same keys, and some are negative, so only sums are true. attempts and attempts_defaulted are as in attempts_by_status. Events of the step __orchestrate__, calls of the engine itself, count here. Add step <> ''__orchestrate__'' to leave them out, as views of calls do.';
COMMENT ON COLUMN projector.event_counts.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.event_counts.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.event_counts.event_type IS 'type in the producer''s spelling';
COMMENT ON COLUMN projector.event_counts.status IS 'canonical status';
COMMENT ON COLUMN projector.event_counts.attempts IS 'number of attempts before this one: 0 is the first';
COMMENT ON COLUMN projector.event_counts.events IS 'events';
COMMENT ON COLUMN projector.event_counts.attempts_defaulted IS 'events that do not say which attempt they are of: they count as attempts 0';

CREATE TABLE projector.execution_hours (
    hour timestamp with time zone NOT NULL,
    playbook text NOT NULL COLLATE pg_catalog."C",
    outcome text NOT NULL COLLATE pg_catalog."C",
    shard smallint NOT NULL,
    executions bigint NOT NULL,
    CONSTRAINT execution_hours_outcome CHECK ((outcome = ANY (ARRAY['BEGUN'::text, 'COMPLETED'::text, 'FAILED'::text, 'CANCELLED'::text]))),
    CONSTRAINT execution_hours_possible CHECK (((hour >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (hour < '10000-01-01 00:00:00+00'::timestamp with time zone) AND ((shard = 64) OR ((executions >= (- ((1)::bigint << 56))) AND (executions <= ((1)::bigint << 56))))))
)
WITH (fillfactor='70');
COMMENT ON TABLE projector.execution_hours IS 'Private: executions that began and that ended, by hour and playbook. View: execution_outcomes.';
COMMENT ON COLUMN projector.execution_hours.hour IS 'Start of the hour, UTC.';
COMMENT ON COLUMN projector.execution_hours.playbook IS 'Path of the playbook; empty while it is not known.';
COMMENT ON COLUMN projector.execution_hours.outcome IS 'BEGUN, or how the executions ended.';
COMMENT ON COLUMN projector.execution_hours.shard IS 'Counter shard; -1 is the archived part. Only sums over all shards mean anything.';
COMMENT ON COLUMN projector.execution_hours.executions IS 'Number of executions.';

CREATE VIEW projector.execution_outcomes AS
 SELECT hour,
    playbook,
    outcome,
    executions
   FROM projector.execution_hours
  WHERE (executions <> 0);
COMMENT ON VIEW projector.execution_outcomes IS 'How many executions began, and how many ended in which status, over time? BEGUN is counted in the hour of the begin, the others in the hour of the end. Rows are parts, as in event_counts. For minutes, count executions by begun_at and ended_at.';
COMMENT ON COLUMN projector.execution_outcomes.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.execution_outcomes.playbook IS 'path of the playbook; empty while it is not known';
COMMENT ON COLUMN projector.execution_outcomes.outcome IS 'BEGUN, or how they ended: COMPLETED, FAILED or CANCELLED';
COMMENT ON COLUMN projector.execution_outcomes.executions IS 'executions';

CREATE VIEW projector.execution_timeline AS
 SELECT facts.execution_id,
    event.created_at,
    event.event_id,
    event.event_type,
    event.step,
    event.status,
    event.attempts,
    event.command_id,
    event.iteration,
    event.worker_id,
    event.max_attempts,
    event.duration,
    event.error,
    event.node_type,
    event.catalog_id,
    event.parent_event_id,
    event.parent_execution_id,
    event.context,
    event.result,
    event.meta,
    event.extra,
    event.coercions,
    event.evidence,
    event.shape,
    event.normalizer_version,
    event.source_topic,
    event.source_incarnation,
    event.source_partition,
    event.source_offset,
    event.source_index,
    event.headers,
    event.trace_id,
    event.recorded_at,
    event.ingested_at
   FROM (projector.execution_facts facts
     CROSS JOIN LATERAL projector.events_of(ARRAY[facts.execution_id]) event(event_id, execution_id, event_type, step, status, attempts, max_attempts, created_at, worker_id, command_id, iteration, node_type, catalog_id, parent_event_id, parent_execution_id, duration, error, context, result, meta, extra, coercions, evidence, shape, normalizer_version, source_topic, source_incarnation, source_partition, source_offset, source_index, headers, trace_id, recorded_at, merge_flags, batch_id, ingested_at));
COMMENT ON VIEW projector.execution_timeline IS 'What happened in one execution, event by event? Always filter by execution_id: only this view reads the table of events.';
COMMENT ON COLUMN projector.execution_timeline.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.execution_timeline.created_at IS 'when it happened, by the clock of its producer';
COMMENT ON COLUMN projector.execution_timeline.event_id IS 'id of the event';
COMMENT ON COLUMN projector.execution_timeline.event_type IS 'type in the producer''s spelling';
COMMENT ON COLUMN projector.execution_timeline.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.execution_timeline.status IS 'canonical status';
COMMENT ON COLUMN projector.execution_timeline.attempts IS 'number of attempts before this one: 0 is the first';
COMMENT ON COLUMN projector.execution_timeline.command_id IS 'id of the command; null if the producer gave none';
COMMENT ON COLUMN projector.execution_timeline.iteration IS 'index in a loop; null outside of loops';
COMMENT ON COLUMN projector.execution_timeline.worker_id IS 'the worker';
COMMENT ON COLUMN projector.execution_timeline.max_attempts IS 'number of attempts that are allowed in all';
COMMENT ON COLUMN projector.execution_timeline.duration IS 'seconds, if the producer measured them';
COMMENT ON COLUMN projector.execution_timeline.error IS 'error text';
COMMENT ON COLUMN projector.execution_timeline.node_type IS 'kind of step';
COMMENT ON COLUMN projector.execution_timeline.catalog_id IS 'id of the playbook in the catalog';
COMMENT ON COLUMN projector.execution_timeline.parent_event_id IS 'the event that caused it';
COMMENT ON COLUMN projector.execution_timeline.parent_execution_id IS 'the execution that started it';
COMMENT ON COLUMN projector.execution_timeline.context IS 'the producer''s JSON';
COMMENT ON COLUMN projector.execution_timeline.result IS 'the producer''s JSON';
COMMENT ON COLUMN projector.execution_timeline.meta IS 'the producer''s JSON, with attempts';
COMMENT ON COLUMN projector.execution_timeline.extra IS 'what the producer sent beyond the envelope';
COMMENT ON COLUMN projector.execution_timeline.coercions IS 'values whose meaning was changed or guessed, with the original';
COMMENT ON COLUMN projector.execution_timeline.evidence IS 'three digits: where attempts, status and created_at came from';
COMMENT ON COLUMN projector.execution_timeline.shape IS 'wire shape of the record';
COMMENT ON COLUMN projector.execution_timeline.normalizer_version IS 'version of the rules that made the row';
COMMENT ON COLUMN projector.execution_timeline.source_topic IS 'coordinates of the record';
COMMENT ON COLUMN projector.execution_timeline.source_incarnation IS 'coordinates of the record';
COMMENT ON COLUMN projector.execution_timeline.source_partition IS 'coordinates of the record';
COMMENT ON COLUMN projector.execution_timeline.source_offset IS 'coordinates of the record';
COMMENT ON COLUMN projector.execution_timeline.source_index IS 'coordinates of the record';
COMMENT ON COLUMN projector.execution_timeline.headers IS 'the record''s headers, redacted';
COMMENT ON COLUMN projector.execution_timeline.trace_id IS 'trace that the record belongs to';
COMMENT ON COLUMN projector.execution_timeline.recorded_at IS 'time of the record in Kafka';
COMMENT ON COLUMN projector.execution_timeline.ingested_at IS 'when it was stored';

CREATE VIEW projector.executions AS
 SELECT execution_id,
    hour,
    playbook,
    version,
    status,
    catalog_id,
    parent_execution_id,
    first_at,
    begun_at,
    last_at,
    ended_at,
    (EXTRACT(epoch FROM (ended_at - first_at)))::double precision AS duration_s,
    events,
    highest_attempts,
    ( SELECT count(*) AS count
           FROM projector.call_facts failure
          WHERE ((failure.execution_id = facts.execution_id) AND projector.call_failed(failure.outcome_ranked) AND (COALESCE(projector.ranked_value(failure.step_ranked), ''::text) <> '__orchestrate__'::text))) AS failed_calls,
    completed,
    failed,
    cancelled,
    (((((completed > 0))::integer + ((failed > 0))::integer) + ((cancelled > 0))::integer) > 1) AS contradicting,
    COALESCE((active_at > ended_at), false) AS active_after_end,
    last_event_ranked[2] AS last_event_type,
    last_event_ranked[3] AS last_step
   FROM ( SELECT execution_facts.execution_id,
            execution_facts.events,
            execution_facts.first_at,
            execution_facts.begin_at AS begun_at,
            execution_facts.last_at,
            execution_facts.active_at,
            execution_facts.highest_attempts,
            execution_facts.catalog_id,
            execution_facts.parent_execution_id,
            execution_facts.completed,
            execution_facts.failed,
            execution_facts.cancelled,
            projector.hour_of(execution_facts.first_at) AS hour,
            projector.playbook_of(execution_facts.playbook_ranked) AS playbook,
            projector.version_of(execution_facts.playbook_ranked) AS version,
            execution_facts.last_event_ranked,
            LEAST(execution_facts.completed_at, execution_facts.failed_at, execution_facts.cancelled_at) AS ended_at,
            COALESCE(NULLIF(projector.outcome_of(execution_facts.completed_at, execution_facts.failed_at, execution_facts.cancelled_at), ''::text), 'RUNNING'::text) AS status
           FROM projector.execution_facts) facts;
COMMENT ON VIEW projector.executions IS 'What is the state of each execution? status is RUNNING, or the outcome of its earliest lifecycle end. contradicting: its ends disagree. active_after_end: something else happened after the end. hour is the hour of its first event. failed_calls leaves out calls of the step __orchestrate__.';
COMMENT ON COLUMN projector.executions.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.executions.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.executions.playbook IS 'path of the playbook; empty while it is not known';
COMMENT ON COLUMN projector.executions.version IS 'version of the playbook, if the event that begins it names it with the path';
COMMENT ON COLUMN projector.executions.status IS 'RUNNING, COMPLETED, FAILED or CANCELLED';
COMMENT ON COLUMN projector.executions.catalog_id IS 'id of the playbook in the catalog';
COMMENT ON COLUMN projector.executions.parent_execution_id IS 'the execution that started it';
COMMENT ON COLUMN projector.executions.first_at IS 'time of its first event';
COMMENT ON COLUMN projector.executions.begun_at IS 'when the event that begins it happened; null without one';
COMMENT ON COLUMN projector.executions.last_at IS 'time of its last event';
COMMENT ON COLUMN projector.executions.ended_at IS 'the earliest lifecycle end; null while it runs';
COMMENT ON COLUMN projector.executions.duration_s IS 'seconds from its first event to its end';
COMMENT ON COLUMN projector.executions.events IS 'events';
COMMENT ON COLUMN projector.executions.highest_attempts IS 'highest attempts of its events';
COMMENT ON COLUMN projector.executions.failed_calls IS 'its attempts that ended FAILED, ERROR or CANCELLED';
COMMENT ON COLUMN projector.executions.completed IS 'number of events that end it as COMPLETED';
COMMENT ON COLUMN projector.executions.failed IS 'number of events that end it as FAILED';
COMMENT ON COLUMN projector.executions.cancelled IS 'number of events that end it as CANCELLED';
COMMENT ON COLUMN projector.executions.contradicting IS 'whether its ends disagree';
COMMENT ON COLUMN projector.executions.active_after_end IS 'whether anything but a report of the end is later than ended_at';
COMMENT ON COLUMN projector.executions.last_event_type IS 'type of its last event';
COMMENT ON COLUMN projector.executions.last_step IS 'step of its last event';

CREATE VIEW projector.freshness AS
 WITH retired AS (
         SELECT source_positions.topic,
            source_positions.incarnation,
            source_positions.partition
           FROM (normalizer.source_positions
             JOIN normalizer.position_changes USING (topic, incarnation, partition, epoch))
          WHERE (position_changes.action = 'retire'::text)
        )
 SELECT known.topic,
    known.partition,
    "position".incarnation,
        CASE
            WHEN ("position".topic IS NULL) THEN 'unclaimed'::text
            WHEN COALESCE((reported.heartbeat_at < (now() - '00:00:10'::interval)), true) THEN 'dead'::text
            WHEN reported.stopped THEN 'stopped'::text
            WHEN (reported.log_end IS NULL) THEN 'reading'::text
            WHEN (reported.end_seen_at < (now() - '00:00:10'::interval)) THEN 'broker_away'::text
            WHEN ("position".next_offset >= reported.log_end) THEN 'caught_up'::text
            WHEN (LEAST(reported.behind_since, read.as_of) < (reported.heartbeat_at - '00:00:10'::interval)) THEN 'behind'::text
            ELSE 'reading'::text
        END AS state,
    "position".next_offset,
    reported.log_end,
    (reported.log_end - LEAST("position".next_offset, reported.log_end)) AS unread,
    read.as_of,
    (EXTRACT(epoch FROM (reported.heartbeat_at -
        CASE
            WHEN ((reported.behind_since IS NULL) AND (reported.log_end IS NOT NULL)) THEN reported.heartbeat_at
            ELSE read.as_of
        END)))::double precision AS behind_s,
    reported.heartbeat_at,
    reported.end_seen_at,
    "position".records,
    "position".stored,
    "position".merged,
    "position".duplicate,
    "position".quarantined,
    "position".ignored,
    to_timestamp(((("position".last_recorded_ms)::numeric / 1000.0))::double precision) AS last_recorded_at,
    "position".committed_at AS last_committed_at,
    ((EXTRACT(epoch FROM "position".committed_at))::double precision - (("position".last_recorded_ms)::double precision / (1000.0)::double precision)) AS delay_s,
    (EXTRACT(epoch FROM (now() - "position".committed_at)))::double precision AS silent_s
   FROM (((( SELECT source_positions.topic,
            source_positions.partition
           FROM normalizer.source_positions
        UNION
         SELECT source_heartbeats.topic,
            generate_series(0, (source_heartbeats.partition_count - 1)) AS generate_series
           FROM normalizer.source_heartbeats
          WHERE (NOT ((source_heartbeats.topic, source_heartbeats.incarnation, source_heartbeats.partition) IN ( SELECT retired.topic,
                    retired.incarnation,
                    retired.partition
                   FROM retired)))) known(topic, partition)
     LEFT JOIN LATERAL ( SELECT latest.topic,
            latest.incarnation,
            latest.partition,
            latest.cluster_id,
            latest.owner,
            latest.epoch,
            latest.start_offset,
            latest.next_offset,
            latest.dedup_offset,
            latest.records,
            latest.holes,
            latest.rewound,
            latest.outcomes,
            latest.stored,
            latest.duplicate,
            latest.merged,
            latest.quarantined,
            latest.ignored,
            latest.last_offset,
            latest.last_recorded_ms,
            latest.last_crc,
            latest.holder,
            latest.slice_records,
            latest.claimed_at,
            latest.committed_at,
            latest.shapes
           FROM normalizer.source_positions latest
          WHERE ((latest.topic = known.topic) AND (latest.partition = known.partition))
          ORDER BY latest.incarnation DESC
         LIMIT 1) "position" ON (true))
     LEFT JOIN normalizer.source_heartbeats reported ON (((reported.topic = known.topic) AND (reported.partition = known.partition) AND (reported.incarnation = "position".incarnation))))
     CROSS JOIN LATERAL ( SELECT COALESCE(
                CASE
                    WHEN (reported.behind_since IS NULL) THEN reported.end_seen_at
                    ELSE NULLIF(reported.behind_since, reported.mark_at)
                END, to_timestamp(((("position".last_recorded_ms)::numeric / 1000.0))::double precision)) AS as_of) read)
  WHERE (NOT (EXISTS ( SELECT
           FROM retired
          WHERE ((retired.topic = "position".topic) AND (retired.incarnation = "position".incarnation) AND (retired.partition = "position".partition)))));
COMMENT ON VIEW projector.freshness IS 'How fresh is what all views show, and is a process keeping it fresh? state: caught_up (all of the log is stored), reading, behind (by more than 10 s), dead (no heartbeat for 10 s: no process), broker_away (a heartbeat, but the broker does not report the end of the log), stopped (the process leaves the partition alone), unclaimed (never read). as_of: every record that the log held at this time is in every view. Until a log was read to an end that was seen, that is the time of the last record that was read. A partition that an operator retired is left out until a process claims it.';
COMMENT ON COLUMN projector.freshness.topic IS 'topic';
COMMENT ON COLUMN projector.freshness.partition IS 'partition of the topic';
COMMENT ON COLUMN projector.freshness.incarnation IS 'how often the topic was deleted and created again';
COMMENT ON COLUMN projector.freshness.state IS 'state of the partition';
COMMENT ON COLUMN projector.freshness.next_offset IS 'offset of the next record to read';
COMMENT ON COLUMN projector.freshness.log_end IS 'the offset after the last committed record of the log';
COMMENT ON COLUMN projector.freshness.unread IS 'offsets from next_offset to log_end; null while that is not known';
COMMENT ON COLUMN projector.freshness.as_of IS 'every record that the log held at this time is in every view';
COMMENT ON COLUMN projector.freshness.behind_s IS 'seconds from as_of to the heartbeat; 0 if everything is stored, null while nothing was read';
COMMENT ON COLUMN projector.freshness.heartbeat_at IS 'when the process that owns the partition last wrote its heartbeat';
COMMENT ON COLUMN projector.freshness.end_seen_at IS 'when the broker last reported the end of the log';
COMMENT ON COLUMN projector.freshness.records IS 'number of records that were read';
COMMENT ON COLUMN projector.freshness.stored IS 'outcomes that became rows';
COMMENT ON COLUMN projector.freshness.merged IS 'outcomes that changed an event that was stored already';
COMMENT ON COLUMN projector.freshness.duplicate IS 'outcomes that were stored already';
COMMENT ON COLUMN projector.freshness.quarantined IS 'outcomes that were refused';
COMMENT ON COLUMN projector.freshness.ignored IS 'outcomes that are no event: tombstones, empty batches, expired events';
COMMENT ON COLUMN projector.freshness.last_recorded_at IS 'Kafka time of the last record that was read';
COMMENT ON COLUMN projector.freshness.last_committed_at IS 'when the last record was committed';
COMMENT ON COLUMN projector.freshness.delay_s IS 'seconds from the Kafka time of the last record to its commit here';
COMMENT ON COLUMN projector.freshness.silent_s IS 'seconds since then';

CREATE VIEW projector.timed_executions AS
 SELECT facts.execution_id,
    facts.events,
    facts.first_at,
    facts.begin_at,
    facts.last_at,
    facts.last_event_ranked,
    facts.active_at,
    facts.highest_attempts,
    facts.playbook_ranked,
    facts.catalog_id,
    facts.parent_execution_id,
    facts.completed,
    facts.completed_at,
    facts.failed,
    facts.failed_at,
    facts.cancelled,
    facts.cancelled_at,
    facts.counted_playbook_ranked,
    facts.counted_begun,
    facts.counted_outcome,
    facts.counted_ended,
        CASE
            WHEN (log.topic IS NULL) THEN newest.as_of
            ELSE log.as_of
        END AS as_of
   FROM ((projector.execution_facts facts
     LEFT JOIN projector.freshness log ON (((log.topic = facts.last_event_ranked[4]) AND ((log.partition)::text = facts.last_event_ranked[5]))))
     CROSS JOIN ( SELECT max(freshness.as_of) AS as_of
           FROM projector.freshness) newest);
COMMENT ON VIEW projector.timed_executions IS 'Private: up to what time has the log of each execution been read? as_of is that of the partition of its last event. If that has no position, for example because a backfill took the event from a file or a table, it is the newest as_of of the partitions of Kafka. This view is granted to nobody and may change.';
COMMENT ON COLUMN projector.timed_executions.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.timed_executions.events IS 'events';
COMMENT ON COLUMN projector.timed_executions.first_at IS 'time of its first event';
COMMENT ON COLUMN projector.timed_executions.last_at IS 'time of its last event';
COMMENT ON COLUMN projector.timed_executions.highest_attempts IS 'highest attempts of its events';
COMMENT ON COLUMN projector.timed_executions.catalog_id IS 'id of the playbook in the catalog';
COMMENT ON COLUMN projector.timed_executions.parent_execution_id IS 'the execution that started it';
COMMENT ON COLUMN projector.timed_executions.completed IS 'number of events that end it as COMPLETED';
COMMENT ON COLUMN projector.timed_executions.completed_at IS 'the first event that ends it as COMPLETED';
COMMENT ON COLUMN projector.timed_executions.failed IS 'attempts that ended FAILED, ERROR or CANCELLED';
COMMENT ON COLUMN projector.timed_executions.failed_at IS 'the first event that ends it as FAILED';
COMMENT ON COLUMN projector.timed_executions.cancelled IS 'number of events that end it as CANCELLED';
COMMENT ON COLUMN projector.timed_executions.cancelled_at IS 'the first event that ends it as CANCELLED';
COMMENT ON COLUMN projector.timed_executions.as_of IS 'every record that the log held at this time is in every view';

CREATE VIEW projector.executions_without_end AS
 SELECT facts.execution_id,
    projector.hour_of(facts.first_at) AS hour,
    projector.playbook_of(facts.playbook_ranked) AS playbook,
    tries.calls,
    tries.last_finished_at,
    facts.last_at,
    (EXTRACT(epoch FROM (facts.as_of - LEAST(facts.last_at, facts.as_of))))::double precision AS silent_s
   FROM ((projector.timed_executions facts
     CROSS JOIN LATERAL ( SELECT count(*) AS calls,
            max(call_facts.finished_at) AS last_finished_at,
            bool_and((call_facts.finished_at IS NOT NULL)) AS all_finished
           FROM projector.call_facts
          WHERE ((call_facts.execution_id = facts.execution_id) AND (COALESCE(projector.ranked_value(call_facts.step_ranked), ''::text) <> '__orchestrate__'::text))) tries)
     LEFT JOIN projector.freshness log ON (((log.topic = facts.last_event_ranked[4]) AND ((log.partition)::text = facts.last_event_ranked[5]))))
  WHERE ((facts.completed_at IS NULL) AND (facts.failed_at IS NULL) AND (facts.cancelled_at IS NULL) AND tries.all_finished);
COMMENT ON VIEW projector.executions_without_end IS 'Which executions have finished all their calls but did not end? hour is the hour of the first event. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.executions_without_end.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.executions_without_end.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.executions_without_end.playbook IS 'path of the playbook; empty while it is not known';
COMMENT ON COLUMN projector.executions_without_end.calls IS 'how many calls it made';
COMMENT ON COLUMN projector.executions_without_end.last_finished_at IS 'when the last of its calls ended';
COMMENT ON COLUMN projector.executions_without_end.last_at IS 'time of its last event';
COMMENT ON COLUMN projector.executions_without_end.silent_s IS 'seconds since its last event, by as_of as in stuck_executions: 0 if that is before the event, null while nobody reads its partition';

CREATE VIEW projector.failed_calls AS
 SELECT projector.hour_of(finished_at) AS hour,
    finished_at,
    projector.error_class_of(COALESCE(projector.call_error(error_ranked), ''::text)) AS error_class,
    projector.call_error(error_ranked) AS error,
    execution_id,
    ( SELECT projector.playbook_of(execution.playbook_ranked) AS playbook_of
           FROM projector.execution_facts execution
          WHERE (execution.execution_id = call_facts.execution_id)) AS playbook,
    COALESCE(projector.ranked_value(step_ranked), ''::text) AS step,
    command_id,
    attempts,
    projector.call_outcome(outcome_ranked) AS status,
    projector.ranked_value(worker_ranked) AS worker_id
   FROM projector.call_facts
  WHERE ((finished_at IS NOT NULL) AND projector.call_failed(outcome_ranked) AND (COALESCE(projector.ranked_value(step_ranked), ''::text) <> '__orchestrate__'::text));
COMMENT ON VIEW projector.failed_calls IS 'Which calls failed with one error? Put the error on error_class and your time range on finished_at, because both reach one index. calls has every call. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.failed_calls.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.failed_calls.finished_at IS 'when it ended';
COMMENT ON COLUMN projector.failed_calls.error_class IS 'error text without quoted parts, e-mail addresses and ids, which are words with a digit or of eight or more letters from a to f; codes stay; empty without an error text';
COMMENT ON COLUMN projector.failed_calls.error IS 'error text, at most 1,000 characters; null if no event has one';
COMMENT ON COLUMN projector.failed_calls.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.failed_calls.playbook IS 'path of the playbook; empty while it is not known';
COMMENT ON COLUMN projector.failed_calls.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.failed_calls.command_id IS 'id of the command; null if the producer gave none';
COMMENT ON COLUMN projector.failed_calls.attempts IS 'number of attempts before this one: 0 is the first';
COMMENT ON COLUMN projector.failed_calls.status IS 'FAILED, ERROR or CANCELLED';
COMMENT ON COLUMN projector.failed_calls.worker_id IS 'the worker';

CREATE VIEW projector.failures_by_error AS
 SELECT hour,
    step,
    attempts,
    status,
    error_class,
    (sum(calls))::bigint AS calls
   FROM projector.error_hours
  GROUP BY hour, step, attempts, status, error_class
 HAVING (sum(calls) <> (0)::numeric);
COMMENT ON VIEW projector.failures_by_error IS 'Which errors do calls fail with, by attempt? error_class is the error text without its ids, e-mail addresses and quoted parts; HTTP and exit codes stay. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.failures_by_error.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.failures_by_error.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.failures_by_error.attempts IS 'number of attempts before this one: 0 is the first';
COMMENT ON COLUMN projector.failures_by_error.status IS 'canonical status';
COMMENT ON COLUMN projector.failures_by_error.error_class IS 'error text without quoted parts, e-mail addresses and ids, which are words with a digit or of eight or more letters from a to f; codes stay; null if it did not fail';
COMMENT ON COLUMN projector.failures_by_error.calls IS 'number of finished attempts (rows of projector.calls)';

CREATE VIEW projector.gaps AS
 SELECT topic,
    partition,
    incarnation,
    lower(missing) AS first_offset,
    upper(missing) AS next_offset,
    missing,
    offsets,
    reason,
    found_at,
    projector.hour_of(found_at) AS hour
   FROM normalizer.gaps;
COMMENT ON VIEW projector.gaps IS 'How many offsets between first_offset and next_offset gave no record, and why? hole: the broker had none there (markers of transactions share a row with their neighbours). expired: Kafka deleted them before they were read. skipped: an operator skipped them.';
COMMENT ON COLUMN projector.gaps.topic IS 'topic';
COMMENT ON COLUMN projector.gaps.partition IS 'partition of the topic';
COMMENT ON COLUMN projector.gaps.incarnation IS 'how often the topic was deleted and created again';
COMMENT ON COLUMN projector.gaps.first_offset IS 'the first offset without a record';
COMMENT ON COLUMN projector.gaps.next_offset IS 'the offset after the last one without a record';
COMMENT ON COLUMN projector.gaps.missing IS 'the offsets themselves: missing @> 1042::bigint';
COMMENT ON COLUMN projector.gaps.offsets IS 'how many offsets';
COMMENT ON COLUMN projector.gaps.reason IS 'why';
COMMENT ON COLUMN projector.gaps.found_at IS 'when the gap was found';
COMMENT ON COLUMN projector.gaps.hour IS 'the hour, UTC';

CREATE VIEW projector.jobs AS
SELECT
    NULL::text AS job_id,
    NULL::integer AS run,
    NULL::text AS kind,
    NULL::text AS spec,
    NULL::text AS state,
    NULL::text AS reason,
    NULL::double precision AS progress_ratio,
    NULL::double precision AS records_per_s,
    NULL::double precision AS remaining_s,
    NULL::double precision AS throttled_by_lag_s,
    NULL::double precision AS throttled_by_rate_s,
    NULL::bigint AS records,
    NULL::bigint AS holes,
    NULL::bigint AS expired,
    NULL::bigint AS outcomes,
    NULL::bigint AS stored,
    NULL::bigint AS duplicate,
    NULL::bigint AS merged,
    NULL::bigint AS quarantined,
    NULL::bigint AS ignored,
    NULL::bigint AS changed,
    NULL::bigint AS unchanged,
    NULL::bigint AS refused,
    NULL::timestamp with time zone AS started_at,
    NULL::timestamp with time zone AS updated_at,
    NULL::timestamp with time zone AS ended_at;
COMMENT ON VIEW projector.jobs IS 'Which jobs over history run or ran, how far and how fast are they, what throttled them, and what were the outcomes of their records?';
COMMENT ON COLUMN projector.jobs.job_id IS 'id of the job; a run that continues keeps it';
COMMENT ON COLUMN projector.jobs.run IS 'number of the run, from 1';
COMMENT ON COLUMN projector.jobs.kind IS 'backfill, renormalize, redrive or redact';
COMMENT ON COLUMN projector.jobs.spec IS 'its options';
COMMENT ON COLUMN projector.jobs.state IS 'running, interrupted, or how it ended';
COMMENT ON COLUMN projector.jobs.reason IS 'why it ended, if there is something to add';
COMMENT ON COLUMN projector.jobs.progress_ratio IS 'share of its source that is done, 0 to 1; null if that is not known';
COMMENT ON COLUMN projector.jobs.records_per_s IS 'speed, in records per second';
COMMENT ON COLUMN projector.jobs.remaining_s IS 'seconds that it still needs at this speed';
COMMENT ON COLUMN projector.jobs.throttled_by_lag_s IS 'seconds that it paused because the service lagged';
COMMENT ON COLUMN projector.jobs.throttled_by_rate_s IS 'seconds that it paused to keep to its rate limit';
COMMENT ON COLUMN projector.jobs.records IS 'records read';
COMMENT ON COLUMN projector.jobs.holes IS 'offsets without a record';
COMMENT ON COLUMN projector.jobs.expired IS 'offsets that retention deleted before they were read';
COMMENT ON COLUMN projector.jobs.outcomes IS 'outcomes of its records, in all';
COMMENT ON COLUMN projector.jobs.stored IS 'outcomes that became rows';
COMMENT ON COLUMN projector.jobs.duplicate IS 'outcomes that were stored already';
COMMENT ON COLUMN projector.jobs.merged IS 'outcomes that changed an event that was stored already';
COMMENT ON COLUMN projector.jobs.quarantined IS 'outcomes that were refused';
COMMENT ON COLUMN projector.jobs.ignored IS 'outcomes that are no event';
COMMENT ON COLUMN projector.jobs.changed IS 'stored rows that the job changed';
COMMENT ON COLUMN projector.jobs.unchanged IS 'stored rows that the job left as they were';
COMMENT ON COLUMN projector.jobs.refused IS 'stored rows that today''s rules would refuse';
COMMENT ON COLUMN projector.jobs.started_at IS 'when it began';
COMMENT ON COLUMN projector.jobs.updated_at IS 'when the runner last reported its progress';
COMMENT ON COLUMN projector.jobs.ended_at IS 'when it ended; null while it runs';

CREATE VIEW projector.late_arrivals AS
 SELECT hour,
    shape,
    worker_id,
    (ARRAY['unknown'::text, 'clock ahead'::text, 'under 1 s'::text, 'under 10 s'::text, 'under 1 min'::text, 'under 10 min'::text, 'under 1 h'::text, 'under 1 day'::text, 'over 1 day'::text])[(lateness + 1)] AS lateness,
    (lateness = ANY (ARRAY[0, 2])) AS on_time,
    (sum(events))::bigint AS events,
    ((sum(skew_us))::double precision / (1000000)::double precision) AS skew_s
   FROM projector.arrival_hours
  GROUP BY hour, shape, worker_id, lateness
 HAVING (sum(events) <> (0)::numeric);
COMMENT ON VIEW projector.late_arrivals IS 'How long after they happened do events reach Kafka, and whose clock is wrong? By the hour of their arrival. clock ahead: the producer''s time is more than a second after Kafka''s. A clock that is behind shows as a worker whose events are all late. sum(skew_s) / sum(events) of the rows whose lateness is not unknown is the mean time, below 0 where the clock is ahead.';
COMMENT ON COLUMN projector.late_arrivals.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.late_arrivals.shape IS 'wire shape of the record';
COMMENT ON COLUMN projector.late_arrivals.worker_id IS 'the worker; empty if the event names none';
COMMENT ON COLUMN projector.late_arrivals.lateness IS 'how long after it happened Kafka received it';
COMMENT ON COLUMN projector.late_arrivals.on_time IS 'under a second, or not known';
COMMENT ON COLUMN projector.late_arrivals.events IS 'events';
COMMENT ON COLUMN projector.late_arrivals.skew_s IS 'seconds from created_at to recorded_at, added up; below 0 if the clock is ahead; an event on time counts as 0';

CREATE VIEW projector.loops AS
 SELECT facts.execution_id,
    projector.hour_of(facts.first_at) AS hour,
    looped.step,
    looped.issued,
    looped.done,
    looped.failed
   FROM (projector.execution_facts facts
     CROSS JOIN LATERAL ( SELECT iterations.step,
            count(*) AS issued,
            count(*) FILTER (WHERE iterations.completed) AS done,
            count(*) FILTER (WHERE (iterations.finished AND (NOT iterations.completed))) AS failed
           FROM ( SELECT COALESCE(projector.ranked_value(call_facts.step_ranked), ''::text) AS step,
                    call_facts.iteration,
                    COALESCE(bool_or((NOT projector.call_failed(call_facts.outcome_ranked))), false) AS completed,
                    bool_and((call_facts.finished_at IS NOT NULL)) AS finished
                   FROM projector.call_facts
                  WHERE ((call_facts.execution_id = facts.execution_id) AND (call_facts.iteration IS NOT NULL))
                  GROUP BY COALESCE(projector.ranked_value(call_facts.step_ranked), ''::text), call_facts.iteration) iterations
          WHERE (iterations.step <> '__orchestrate__'::text)
          GROUP BY iterations.step) looped);
COMMENT ON VIEW projector.loops IS 'How far is each loop: how many of its issued iterations are done? failed: iterations whose attempts have all ended, none of them COMPLETED. hour is the hour of the execution''s first event. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.loops.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.loops.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.loops.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.loops.issued IS 'iterations that were issued';
COMMENT ON COLUMN projector.loops.done IS 'iterations that completed';
COMMENT ON COLUMN projector.loops.failed IS 'iterations whose attempts have all ended, none of them COMPLETED';

CREATE TABLE projector.maintenance_state (
    subject text NOT NULL,
    kept_from timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    compacted_to timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    full_scan_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL
);
COMMENT ON TABLE projector.maintenance_state IS 'Private: how far `projector maintain` has got. Rows before kept_from are neither counted, shown nor verified.';
COMMENT ON COLUMN projector.maintenance_state.subject IS 'What the row is about: minutes, hours or merged_records.';
COMMENT ON COLUMN projector.maintenance_state.kept_from IS 'Rows of earlier times are deleted, or will be.';
COMMENT ON COLUMN projector.maintenance_state.compacted_to IS 'Shards of earlier times were added up.';
COMMENT ON COLUMN projector.maintenance_state.full_scan_at IS 'When all times were last searched for shards to add up.';

CREATE VIEW projector.open_calls AS
 SELECT facts.hour,
    facts.execution_id,
    projector.playbook_of(execution.playbook_ranked) AS playbook,
    facts.step,
    facts.command_id,
    facts.iteration,
    facts.attempts,
    facts.begun_at,
    facts.worker_id,
    facts.waits_for,
    facts.since,
    (EXTRACT(epoch FROM (execution.as_of - LEAST(facts.since, execution.as_of))))::double precision AS waiting_s
   FROM (( SELECT call_facts.execution_id,
            call_facts.attempts,
            call_facts.iteration,
            call_facts.begun_at,
            projector.hour_of(call_facts.begun_at) AS hour,
            call_facts.command_id,
            COALESCE(projector.ranked_value(call_facts.step_ranked), ''::text) AS step,
            projector.ranked_value(call_facts.worker_ranked) AS worker_id,
                CASE
                    WHEN (call_facts.started_at IS NOT NULL) THEN 'finish'::text
                    WHEN (call_facts.claimed_at IS NOT NULL) THEN 'start'::text
                    ELSE 'claim'::text
                END AS waits_for,
            COALESCE(call_facts.started_at, call_facts.claimed_at, call_facts.issued_at, call_facts.begun_at) AS since
           FROM projector.call_facts
          WHERE (call_facts.finished_at IS NULL)) facts
     LEFT JOIN projector.timed_executions execution ON ((execution.execution_id = facts.execution_id)))
  WHERE (facts.step <> '__orchestrate__'::text);
COMMENT ON VIEW projector.open_calls IS 'Which calls were issued and never claimed, claimed and never started, or started and never finished, and for how long? hour is the hour of their begin. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.open_calls.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.open_calls.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.open_calls.playbook IS 'path of the playbook; empty while it is not known';
COMMENT ON COLUMN projector.open_calls.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.open_calls.command_id IS 'id of the command; null if the producer gave none';
COMMENT ON COLUMN projector.open_calls.iteration IS 'index in a loop; null outside of loops';
COMMENT ON COLUMN projector.open_calls.attempts IS 'number of attempts before this one: 0 is the first';
COMMENT ON COLUMN projector.open_calls.begun_at IS 'when the first event of the attempt happened';
COMMENT ON COLUMN projector.open_calls.worker_id IS 'the worker';
COMMENT ON COLUMN projector.open_calls.waits_for IS 'what it waits for: claim, start or finish';
COMMENT ON COLUMN projector.open_calls.since IS 'when the wait began';
COMMENT ON COLUMN projector.open_calls.waiting_s IS 'seconds that it has waited, by as_of as in stuck_executions: 0 if that is before the begin, null while nobody reads its partition';

CREATE VIEW projector.playbook_versions AS
 SELECT hour,
    playbook,
    version,
    count(*) AS executions,
    count(*) FILTER (WHERE (status = 'COMPLETED'::text)) AS completed,
    count(*) FILTER (WHERE (status = 'FAILED'::text)) AS failed,
    count(*) FILTER (WHERE (status = 'CANCELLED'::text)) AS cancelled,
    (EXTRACT(epoch FROM sum((ended_at - first_at))))::double precision AS total_duration_s
   FROM projector.executions
  GROUP BY hour, playbook, version;
COMMENT ON VIEW projector.playbook_versions IS 'How do versions of a playbook compare? By the hour of the first event; total_duration_s is of those that ended.';
COMMENT ON COLUMN projector.playbook_versions.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.playbook_versions.playbook IS 'path of the playbook; empty while it is not known';
COMMENT ON COLUMN projector.playbook_versions.version IS 'version of the playbook, if the event that begins it names it with the path';
COMMENT ON COLUMN projector.playbook_versions.executions IS 'executions';
COMMENT ON COLUMN projector.playbook_versions.completed IS 'those that completed';
COMMENT ON COLUMN projector.playbook_versions.failed IS 'those that failed';
COMMENT ON COLUMN projector.playbook_versions.cancelled IS 'those that were cancelled';
COMMENT ON COLUMN projector.playbook_versions.total_duration_s IS 'seconds from first event to end, of all that ended';

CREATE TABLE projector.quarantine_hours (
    hour timestamp with time zone NOT NULL,
    reason text NOT NULL COLLATE pg_catalog."C",
    shape text NOT NULL COLLATE pg_catalog."C",
    shard smallint NOT NULL,
    refused bigint NOT NULL,
    CONSTRAINT quarantine_hours_possible CHECK (((hour >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (hour < '10000-01-01 00:00:00+00'::timestamp with time zone) AND ((shard = 64) OR ((refused >= (- ((1)::bigint << 56))) AND (refused <= ((1)::bigint << 56))))))
)
WITH (fillfactor='70');
COMMENT ON TABLE projector.quarantine_hours IS 'Private: refusals by hour, reason and shape. View: quarantine_by_reason.';
COMMENT ON COLUMN projector.quarantine_hours.hour IS 'Start of the hour of quarantined_at, UTC.';
COMMENT ON COLUMN projector.quarantine_hours.reason IS 'Reason, as in normalizer.quarantine.';
COMMENT ON COLUMN projector.quarantine_hours.shape IS 'Wire shape of the record that brought it.';
COMMENT ON COLUMN projector.quarantine_hours.shard IS 'Counter shard; -1 is the archived part. Only sums over all shards mean anything.';
COMMENT ON COLUMN projector.quarantine_hours.refused IS 'Number of refusals.';

CREATE VIEW projector.quarantine_by_reason AS
 SELECT hour,
    reason,
    shape,
    (sum(refused))::bigint AS refused
   FROM projector.quarantine_hours
  GROUP BY hour, reason, shape
 HAVING (sum(refused) <> (0)::numeric);
COMMENT ON VIEW projector.quarantine_by_reason IS 'What was refused, why, and in which shape, by hour? `normalizer quarantine list` shows each entry.';
COMMENT ON COLUMN projector.quarantine_by_reason.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.quarantine_by_reason.reason IS 'why';
COMMENT ON COLUMN projector.quarantine_by_reason.shape IS 'wire shape of the record';
COMMENT ON COLUMN projector.quarantine_by_reason.refused IS 'records and events that went to quarantine';

CREATE VIEW projector.quarantine_records AS
 SELECT quarantine_id,
    projector.hour_of(quarantined_at) AS hour,
    quarantined_at,
    reason,
    detail,
    sqlstate,
    shape,
    normalizer_version,
    source_topic AS topic,
    source_incarnation AS incarnation,
    source_partition AS partition,
    source_offset,
    source_index,
    recorded_at,
    value_bytes,
    redriven_at,
    sample,
    execution_id
   FROM normalizer.quarantine;
COMMENT ON VIEW projector.quarantine_records IS 'Which records were refused, why, what are their coordinates, and how do they begin? Put your time range on quarantined_at, because it reaches an index.';
COMMENT ON COLUMN projector.quarantine_records.quarantine_id IS 'id of the entry, for `normalizer quarantine show`';
COMMENT ON COLUMN projector.quarantine_records.hour IS 'the hour of quarantined_at';
COMMENT ON COLUMN projector.quarantine_records.quarantined_at IS 'when it was refused';
COMMENT ON COLUMN projector.quarantine_records.reason IS 'reason, one of a fixed list';
COMMENT ON COLUMN projector.quarantine_records.detail IS 'reason in a sentence, with the path inside the record';
COMMENT ON COLUMN projector.quarantine_records.sqlstate IS 'SQLSTATE, if PostgreSQL refused the row';
COMMENT ON COLUMN projector.quarantine_records.shape IS 'wire shape of the record; empty if it was not recognized';
COMMENT ON COLUMN projector.quarantine_records.normalizer_version IS 'version of the rules that refused it';
COMMENT ON COLUMN projector.quarantine_records.topic IS 'coordinates of the record';
COMMENT ON COLUMN projector.quarantine_records.incarnation IS 'how often the topic was deleted and created again';
COMMENT ON COLUMN projector.quarantine_records.partition IS 'coordinates of the record';
COMMENT ON COLUMN projector.quarantine_records.source_offset IS 'coordinates of the record';
COMMENT ON COLUMN projector.quarantine_records.source_index IS 'index of the event in the record, from 0';
COMMENT ON COLUMN projector.quarantine_records.recorded_at IS 'when Kafka received it';
COMMENT ON COLUMN projector.quarantine_records.value_bytes IS 'size of the value in bytes';
COMMENT ON COLUMN projector.quarantine_records.redriven_at IS 'when a redrive stored it; null if none did';
COMMENT ON COLUMN projector.quarantine_records.sample IS 'first 2 kB of the record, on its first refusal; null if they are not text, if anything in the record may be a secret, if it is larger than 8 MiB, or after the bytes were deleted';
COMMENT ON COLUMN projector.quarantine_records.execution_id IS 'execution that the record names in its value, else in its key; null if neither can be read';

CREATE VIEW projector.redrive_attempts AS
 SELECT quarantine_id,
    tried_at,
    projector.hour_of(tried_at) AS hour,
    tried_by,
    outcome,
    detail,
    normalizer_version,
    job_id,
    run
   FROM normalizer.redrive_attempts;
COMMENT ON VIEW projector.redrive_attempts IS 'Which rejected records did somebody try to redrive, when, under which rules, and what was the outcome? Filter by quarantine_id. A dry run writes nothing, so it is not here.';
COMMENT ON COLUMN projector.redrive_attempts.quarantine_id IS 'id of the entry, as in quarantine_records';
COMMENT ON COLUMN projector.redrive_attempts.tried_at IS 'when it was tried';
COMMENT ON COLUMN projector.redrive_attempts.hour IS 'the hour of tried_at';
COMMENT ON COLUMN projector.redrive_attempts.tried_by IS 'the database user who tried it';
COMMENT ON COLUMN projector.redrive_attempts.outcome IS 'redriven, refused again, or gone: retention or an erasure took it';
COMMENT ON COLUMN projector.redrive_attempts.detail IS 'why it was refused again';
COMMENT ON COLUMN projector.redrive_attempts.normalizer_version IS 'version of the rules that tried it';
COMMENT ON COLUMN projector.redrive_attempts.job_id IS 'id of the redrive';
COMMENT ON COLUMN projector.redrive_attempts.run IS 'number of its run, from 1';

CREATE TABLE projector.retry_minutes (
    minute timestamp with time zone NOT NULL,
    step text NOT NULL COLLATE pg_catalog."C",
    shard smallint NOT NULL,
    first_tries bigint NOT NULL,
    retries bigint NOT NULL,
    CONSTRAINT retry_minutes_possible CHECK (((minute >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (minute < '10000-01-01 00:00:00+00'::timestamp with time zone) AND ((shard = 64) OR ((first_tries >= (- ((1)::bigint << 56))) AND (first_tries <= ((1)::bigint << 56)))) AND ((shard = 64) OR ((retries >= (- ((1)::bigint << 56))) AND (retries <= ((1)::bigint << 56))))))
)
WITH (fillfactor='70');
COMMENT ON TABLE projector.retry_minutes IS 'Private: first attempts and retries by the minute of their end. Views: retries_by_minute, retry_storms.';
COMMENT ON COLUMN projector.retry_minutes.minute IS 'Start of the minute, UTC.';
COMMENT ON COLUMN projector.retry_minutes.step IS 'Name of the step; empty if there is none.';
COMMENT ON COLUMN projector.retry_minutes.shard IS 'Counter shard; -1 is the archived part. Only sums over all shards mean anything.';
COMMENT ON COLUMN projector.retry_minutes.first_tries IS 'Number of attempts with attempts = 0.';
COMMENT ON COLUMN projector.retry_minutes.retries IS 'Number of attempts with attempts > 0.';

CREATE VIEW projector.retries_by_minute AS
 SELECT minute,
    step,
    (sum(first_tries))::bigint AS first_tries,
    (sum(retries))::bigint AS retries
   FROM projector.retry_minutes
  WHERE (minute >= ( SELECT maintenance_state.kept_from
           FROM projector.maintenance_state
          WHERE (maintenance_state.subject = 'minutes'::text)))
  GROUP BY minute, step
 HAVING ((sum(first_tries) <> (0)::numeric) OR (sum(retries) <> (0)::numeric));
COMMENT ON VIEW projector.retries_by_minute IS 'How many first attempts and how many retries ended in each minute, by step? Minutes are kept for two days. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.retries_by_minute.minute IS 'the minute, UTC';
COMMENT ON COLUMN projector.retries_by_minute.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.retries_by_minute.first_tries IS 'attempts with attempts = 0';
COMMENT ON COLUMN projector.retries_by_minute.retries IS 'attempts with attempts > 0';

CREATE VIEW projector.retry_storms AS
 SELECT step,
    minute,
    first_tries_now,
    retries_now,
    first_tries_baseline,
    retries_baseline,
    ((retries_now)::double precision / minutes_now) AS per_minute_now,
    ((retries_baseline)::double precision / (60)::double precision) AS per_minute_baseline,
    ratio_now,
    ratio_baseline,
    (ratio_now / NULLIF(ratio_baseline, (0)::double precision)) AS ratio_vs_baseline,
    ((retries_now >= 20) AND ((10 * retries_now) >= (3 * GREATEST(first_tries_now, (1)::bigint))) AND ((retries_now * GREATEST(first_tries_baseline, (1)::bigint)) >= ((3 * retries_baseline) * GREATEST(first_tries_now, (1)::bigint)))) AS storm
   FROM ( SELECT counted.step,
            counted.minute,
            counted.first_tries_now,
            counted.retries_now,
            counted.first_tries_baseline,
            counted.retries_baseline,
            counted.minutes_now,
            ((counted.retries_now)::double precision / (GREATEST(counted.first_tries_now, (1)::bigint))::double precision) AS ratio_now,
                CASE
                    WHEN ((counted.first_tries_baseline + counted.retries_baseline) > 0) THEN ((counted.retries_baseline)::double precision / (GREATEST(counted.first_tries_baseline, (1)::bigint))::double precision)
                    ELSE NULL::double precision
                END AS ratio_baseline
           FROM ( SELECT retries_by_minute.step,
                    max(retries_by_minute.minute) FILTER (WHERE (retries_by_minute.retries <> 0)) AS minute,
                    (COALESCE(sum(retries_by_minute.first_tries) FILTER (WHERE (retries_by_minute.minute >= latest.since)), (0)::numeric))::bigint AS first_tries_now,
                    (COALESCE(sum(retries_by_minute.retries) FILTER (WHERE (retries_by_minute.minute >= latest.since)), (0)::numeric))::bigint AS retries_now,
                    (COALESCE(sum(retries_by_minute.first_tries) FILTER (WHERE (retries_by_minute.minute < latest.since)), (0)::numeric))::bigint AS first_tries_baseline,
                    (COALESCE(sum(retries_by_minute.retries) FILTER (WHERE (retries_by_minute.minute < latest.since)), (0)::numeric))::bigint AS retries_baseline,
                    ((EXTRACT(epoch FROM (now() - min(latest.since))))::double precision / (60)::double precision) AS minutes_now
                   FROM (projector.retries_by_minute
                     CROSS JOIN ( SELECT (projector.minute_of(now()) - '00:05:00'::interval) AS since) latest)
                  WHERE ((retries_by_minute.minute >= (projector.minute_of(now()) - '01:05:00'::interval)) AND (retries_by_minute.minute <= now()))
                  GROUP BY retries_by_minute.step
                 HAVING (sum(retries_by_minute.retries) <> (0)::numeric)) counted) rated;
COMMENT ON VIEW projector.retry_storms IS 'Which steps retry more now than usual? Compares retries per first attempt of the last 5 minutes and the running one with the 60 minutes before. storm: at least 20 retries now, and at least 3 times the usual ratio (0.1 if it is lower or not known). More traffic alone is not a storm. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.retry_storms.step IS 'name of the step; empty if no event names one';
COMMENT ON COLUMN projector.retry_storms.minute IS 'the last minute with a retry';
COMMENT ON COLUMN projector.retry_storms.first_tries_now IS 'first attempts that ended in the last 5 minutes';
COMMENT ON COLUMN projector.retry_storms.retries_now IS 'retries that ended in the last 5 minutes';
COMMENT ON COLUMN projector.retry_storms.first_tries_baseline IS 'first attempts in the 60 minutes before those';
COMMENT ON COLUMN projector.retry_storms.retries_baseline IS 'retries in the 60 minutes before those';
COMMENT ON COLUMN projector.retry_storms.per_minute_now IS 'retries per minute that ended in the last 5 minutes';
COMMENT ON COLUMN projector.retry_storms.per_minute_baseline IS 'retries per minute in the 60 minutes before those';
COMMENT ON COLUMN projector.retry_storms.ratio_now IS 'retries_now / first_tries_now, or / 1 without any';
COMMENT ON COLUMN projector.retry_storms.ratio_baseline IS 'retries_baseline / first_tries_baseline, or / 1 without any; null without attempts';
COMMENT ON COLUMN projector.retry_storms.ratio_vs_baseline IS 'ratio_now / ratio_baseline';
COMMENT ON COLUMN projector.retry_storms.storm IS 'whether it retries much more than usual';

CREATE TABLE projector.shards (
    shard smallint NOT NULL
);
COMMENT ON TABLE projector.shards IS 'Private: the counter shards. A transaction counts in the shard whose row it has locked. Shard -1 counts deleted events. The rows never change.';
COMMENT ON COLUMN projector.shards.shard IS 'Number of the shard.';

CREATE VIEW projector.stuck_executions AS
 SELECT execution_id,
    (begin_at IS NOT NULL) AS begun,
        CASE
            WHEN ((as_of - last_at) < '01:00:00'::interval) THEN 'under 1 h'::text
            WHEN ((as_of - last_at) < '24:00:00'::interval) THEN 'under 1 day'::text
            WHEN ((as_of - last_at) < '168:00:00'::interval) THEN 'under 7 days'::text
            ELSE '7 days and more'::text
        END AS silent_for,
    projector.hour_of(first_at) AS hour,
    projector.playbook_of(playbook_ranked) AS playbook,
    first_at,
    last_at,
    (EXTRACT(epoch FROM (as_of - first_at)))::double precision AS age_s,
    (EXTRACT(epoch FROM (as_of - last_at)))::double precision AS silent_s,
    last_event_ranked[2] AS last_event_type,
    last_event_ranked[3] AS last_step,
    events,
    highest_attempts
   FROM projector.timed_executions facts
  WHERE ((completed_at IS NULL) AND (failed_at IS NULL) AND (cancelled_at IS NULL) AND (last_at < (as_of - '00:05:00'::interval)));
COMMENT ON VIEW projector.stuck_executions IS 'Which executions have not ended and are silent, since when, and what was their last event? Silent for at least 5 minutes, by the as_of of the partition of the last event: while nobody reads that partition, nothing becomes stuck. If a backfill took the last event from a file or a table, by the newest as_of of the partitions of Kafka. begun is false for strays: no event that begins them was ever read. hour is the hour of the first event.';
COMMENT ON COLUMN projector.stuck_executions.execution_id IS 'id of the execution';
COMMENT ON COLUMN projector.stuck_executions.begun IS 'whether an event that begins it was read';
COMMENT ON COLUMN projector.stuck_executions.silent_for IS 'silent_s in groups: under 1 h, under 1 day, under 7 days, 7 days and more';
COMMENT ON COLUMN projector.stuck_executions.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.stuck_executions.playbook IS 'path of the playbook; empty while it is not known';
COMMENT ON COLUMN projector.stuck_executions.first_at IS 'time of its first event';
COMMENT ON COLUMN projector.stuck_executions.last_at IS 'time of its last event';
COMMENT ON COLUMN projector.stuck_executions.age_s IS 'seconds since its first event';
COMMENT ON COLUMN projector.stuck_executions.silent_s IS 'seconds since its last event';
COMMENT ON COLUMN projector.stuck_executions.last_event_type IS 'type of its last event';
COMMENT ON COLUMN projector.stuck_executions.last_step IS 'step of its last event';
COMMENT ON COLUMN projector.stuck_executions.events IS 'events';
COMMENT ON COLUMN projector.stuck_executions.highest_attempts IS 'highest attempts of its events';

CREATE VIEW projector.stuck_reasons AS
 SELECT stuck.execution_id,
    projector.hour_of(stuck.last_at) AS hour,
    stuck.silent_s,
    COALESCE(waiting.waits_for, 'next'::text) AS waits_for,
    COALESCE(waiting.step, stuck.last_step) AS step,
    waiting.command_id,
    waiting.attempts,
    waiting.worker_id,
    COALESCE(waiting.open_calls, (0)::bigint) AS open_calls
   FROM (projector.stuck_executions stuck
     LEFT JOIN LATERAL ( SELECT open_calls.waits_for,
            open_calls.step,
            open_calls.command_id,
            open_calls.attempts,
            open_calls.worker_id,
            count(*) OVER () AS open_calls
           FROM projector.open_calls
          WHERE (open_calls.execution_id = stuck.execution_id)
          ORDER BY open_calls.since, open_calls.command_id, open_calls.attempts
         LIMIT 1) waiting ON (true));
COMMENT ON VIEW projector.stuck_reasons IS 'What does a stuck execution wait for? Filter by execution_id. Stuck: not ended, and without an event for at least 5 minutes, as in stuck_executions.';
COMMENT ON COLUMN projector.stuck_reasons.execution_id IS 'execution';
COMMENT ON COLUMN projector.stuck_reasons.hour IS 'the hour of its last event';
COMMENT ON COLUMN projector.stuck_reasons.silent_s IS 'seconds since its last event';
COMMENT ON COLUMN projector.stuck_reasons.waits_for IS 'what its open call waits for: claim, start or finish; next if no call is open, so that it waits for its next command or its end';
COMMENT ON COLUMN projector.stuck_reasons.step IS 'step of that call, or of the last event if no call is open';
COMMENT ON COLUMN projector.stuck_reasons.command_id IS 'command of that call; null if no call is open';
COMMENT ON COLUMN projector.stuck_reasons.attempts IS 'attempt of that call; null if no call is open';
COMMENT ON COLUMN projector.stuck_reasons.worker_id IS 'worker of that call; null if none has claimed it';
COMMENT ON COLUMN projector.stuck_reasons.open_calls IS 'number of its open calls';

ALTER TABLE projector.verifications ALTER COLUMN verification_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME projector.verifications_verification_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE projector.worker_hours (
    hour timestamp with time zone NOT NULL,
    worker_id text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    shard smallint NOT NULL,
    calls bigint NOT NULL,
    timed bigint NOT NULL,
    duration_us numeric NOT NULL,
    CONSTRAINT worker_hours_possible CHECK (((hour >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (hour < '10000-01-01 00:00:00+00'::timestamp with time zone) AND ((shard = 64) OR ((calls >= (- ((1)::bigint << 56))) AND (calls <= ((1)::bigint << 56)))) AND ((shard = 64) OR ((timed >= (- ((1)::bigint << 56))) AND (timed <= ((1)::bigint << 56)))) AND ((duration_us >= '-1000000000000000000000000000000'::numeric) AND (duration_us <= '1000000000000000000000000000000'::numeric))))
)
WITH (fillfactor='70');
COMMENT ON TABLE projector.worker_hours IS 'Private: attempts by worker and the hour of their end. View: worker_failures.';
COMMENT ON COLUMN projector.worker_hours.hour IS 'Start of the hour, UTC.';
COMMENT ON COLUMN projector.worker_hours.worker_id IS 'Id of the worker.';
COMMENT ON COLUMN projector.worker_hours.status IS 'Canonical status, in capitals.';
COMMENT ON COLUMN projector.worker_hours.shard IS 'Counter shard; -1 is the archived part. Only sums over all shards mean anything.';
COMMENT ON COLUMN projector.worker_hours.calls IS 'Number of finished attempts (rows of projector.calls).';
COMMENT ON COLUMN projector.worker_hours.timed IS 'Number of attempts with a known duration.';
COMMENT ON COLUMN projector.worker_hours.duration_us IS 'Sum of the known durations, in microseconds. Numeric: a bigint would overflow at 3.5 million calls of 30 days.';

CREATE VIEW projector.worker_failures AS
 SELECT hour,
    worker_id,
    (sum(calls))::bigint AS calls,
    (COALESCE(sum(calls) FILTER (WHERE (status <> 'COMPLETED'::text)), (0)::numeric))::bigint AS failed,
    ((COALESCE(sum(calls) FILTER (WHERE (status <> 'COMPLETED'::text)), (0)::numeric))::double precision / (sum(calls))::double precision) AS error_rate,
    (((sum(duration_us))::double precision / (1000000)::double precision) / (NULLIF(sum(timed), (0)::numeric))::double precision) AS mean_duration_s
   FROM projector.worker_hours
  GROUP BY hour, worker_id
 HAVING (sum(calls) <> (0)::numeric);
COMMENT ON VIEW projector.worker_failures IS 'Which worker fails more than others? error_rate = failed / calls. Calls of the step __orchestrate__ are left out.';
COMMENT ON COLUMN projector.worker_failures.hour IS 'the hour, UTC';
COMMENT ON COLUMN projector.worker_failures.worker_id IS 'the worker';
COMMENT ON COLUMN projector.worker_failures.calls IS 'number of finished attempts (rows of projector.calls)';
COMMENT ON COLUMN projector.worker_failures.failed IS 'attempts that ended FAILED, ERROR or CANCELLED';
COMMENT ON COLUMN projector.worker_failures.error_rate IS 'failed / calls';
COMMENT ON COLUMN projector.worker_failures.mean_duration_s IS 'mean of the known durations, in seconds';

ALTER TABLE ONLY migrations.applied
    ADD CONSTRAINT applied_pkey PRIMARY KEY (version);

ALTER TABLE ONLY normalizer.archived_rows
    ADD CONSTRAINT archived_rows_pkey PRIMARY KEY (source_topic, source_incarnation, source_partition, job_id, run);

ALTER TABLE ONLY normalizer.assigned_ids
    ADD CONSTRAINT assigned_ids_pkey PRIMARY KEY (source_topic, source_incarnation, source_partition, source_offset, source_index);

ALTER TABLE ONLY normalizer.dedup_horizon
    ADD CONSTRAINT dedup_horizon_pkey PRIMARY KEY (topic, incarnation, partition);

ALTER TABLE ONLY normalizer.drift_findings
    ADD CONSTRAINT drift_findings_pkey PRIMARY KEY (shape, field, type);

ALTER TABLE ONLY normalizer.event_changes
    ADD CONSTRAINT event_changes_pkey PRIMARY KEY (transaction_id, change_id);

ALTER TABLE ONLY normalizer.event_relay
    ADD CONSTRAINT event_relay_pkey PRIMARY KEY (one_row);

ALTER TABLE ONLY normalizer.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY normalizer.forgotten_executions
    ADD CONSTRAINT forgotten_executions_pkey PRIMARY KEY (execution_id);

ALTER TABLE ONLY normalizer.gaps
    ADD CONSTRAINT gaps_pkey PRIMARY KEY (topic, incarnation, partition, reason, block);

ALTER TABLE ONLY normalizer.job_batches
    ADD CONSTRAINT job_batches_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY normalizer.job_parts
    ADD CONSTRAINT job_parts_pkey PRIMARY KEY (job_id, run, topic, incarnation, partition);

ALTER TABLE ONLY normalizer.job_refusals
    ADD CONSTRAINT job_refusals_pkey PRIMARY KEY (job_id, run, event_id);

ALTER TABLE ONLY normalizer.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (job_id, run);

ALTER TABLE ONLY normalizer.layout
    ADD CONSTRAINT layout_pkey PRIMARY KEY (one_row);

ALTER TABLE ONLY normalizer.merged_records
    ADD CONSTRAINT merged_records_pkey PRIMARY KEY (source_topic, source_incarnation, source_partition, offset_block, merge_id);

ALTER TABLE ONLY normalizer.position_changes
    ADD CONSTRAINT position_changes_pkey PRIMARY KEY (change_id);

ALTER TABLE ONLY normalizer.quarantine
    ADD CONSTRAINT quarantine_by_source UNIQUE (source_topic, source_incarnation, source_partition, source_offset, source_index);

ALTER TABLE ONLY normalizer.quarantine
    ADD CONSTRAINT quarantine_pkey PRIMARY KEY (quarantine_id);

ALTER TABLE ONLY normalizer.quarantine_raw
    ADD CONSTRAINT quarantine_raw_pkey PRIMARY KEY (source_topic, source_incarnation, source_partition, source_offset);

ALTER TABLE ONLY normalizer.redrive_attempts
    ADD CONSTRAINT redrive_attempts_pkey PRIMARY KEY (quarantine_id, tried_at);

ALTER TABLE ONLY normalizer.retention_horizon
    ADD CONSTRAINT retention_horizon_pkey PRIMARY KEY (one_row);

ALTER TABLE ONLY normalizer.source_heartbeats
    ADD CONSTRAINT source_heartbeats_pkey PRIMARY KEY (topic, partition);

ALTER TABLE ONLY normalizer.source_positions
    ADD CONSTRAINT source_positions_pkey PRIMARY KEY (topic, incarnation, partition);

ALTER TABLE ONLY normalizer.source_topics
    ADD CONSTRAINT source_topics_pkey PRIMARY KEY (topic);

ALTER TABLE ONLY projector.arrival_hours
    ADD CONSTRAINT arrival_hours_pkey PRIMARY KEY (hour, shape, worker_id, lateness, shard);

ALTER TABLE ONLY projector.call_facts
    ADD CONSTRAINT call_facts_pkey PRIMARY KEY (execution_id, command_id, attempts);

ALTER TABLE ONLY projector.call_hours
    ADD CONSTRAINT call_hours_pkey PRIMARY KEY (hour, playbook, step, attempts, status, shard);

ALTER TABLE ONLY projector.call_times
    ADD CONSTRAINT call_times_pkey PRIMARY KEY (hour, measure, playbook, step, attempts, status, bucket, shard);

ALTER TABLE ONLY projector.coercion_hours
    ADD CONSTRAINT coercion_hours_pkey PRIMARY KEY (hour, shape, rule, shard);

ALTER TABLE ONLY projector.divergences
    ADD CONSTRAINT divergences_pkey PRIMARY KEY (divergence_id);

ALTER TABLE ONLY projector.error_hours
    ADD CONSTRAINT error_hours_pkey PRIMARY KEY (hour, step, attempts, status, error_class, shard);

ALTER TABLE ONLY projector.event_hours
    ADD CONSTRAINT event_hours_pkey PRIMARY KEY (hour, step, event_type, status, attempts, shard);

ALTER TABLE ONLY projector.event_kinds
    ADD CONSTRAINT event_kinds_pkey PRIMARY KEY (event_type);

ALTER TABLE ONLY projector.event_minutes
    ADD CONSTRAINT event_minutes_pkey PRIMARY KEY (minute, event_type, status, attempts, shard);

ALTER TABLE ONLY projector.execution_facts
    ADD CONSTRAINT execution_facts_pkey PRIMARY KEY (execution_id);

ALTER TABLE ONLY projector.execution_hours
    ADD CONSTRAINT execution_hours_pkey PRIMARY KEY (hour, playbook, outcome, shard);

ALTER TABLE ONLY projector.maintenance_state
    ADD CONSTRAINT maintenance_state_pkey PRIMARY KEY (subject);

ALTER TABLE ONLY projector.quarantine_hours
    ADD CONSTRAINT quarantine_hours_pkey PRIMARY KEY (hour, reason, shape, shard);

ALTER TABLE ONLY projector.retry_minutes
    ADD CONSTRAINT retry_minutes_pkey PRIMARY KEY (minute, step, shard);

ALTER TABLE ONLY projector.shards
    ADD CONSTRAINT shards_pkey PRIMARY KEY (shard);

ALTER TABLE ONLY projector.verifications
    ADD CONSTRAINT verifications_pkey PRIMARY KEY (verification_id);

ALTER TABLE ONLY projector.worker_hours
    ADD CONSTRAINT worker_hours_pkey PRIMARY KEY (hour, worker_id, status, shard);

CREATE INDEX events_by_arrival ON normalizer.events USING btree (COALESCE(recorded_at, created_at));
COMMENT ON INDEX normalizer.events_by_arrival IS 'Query: events of one hour, by arrival (projector verify, and retention, which looks for old events).';

CREATE INDEX events_by_command ON normalizer.events USING btree (((execution_id + 0)), hashtext(command_id)) WHERE (command_id IS NOT NULL);
COMMENT ON INDEX normalizer.events_by_command IS 'Query: all events of one command, from which its attempts are rebuilt. It asks for execution_id + 0, so that no index on execution_id alone can serve it.';

CREATE INDEX events_by_created ON normalizer.events USING btree (created_at);
COMMENT ON INDEX normalizer.events_by_created IS 'Query: events of one hour, by created_at (projector verify).';

CREATE INDEX events_by_execution ON normalizer.events USING btree (execution_id, event_id);
COMMENT ON INDEX normalizer.events_by_execution IS 'Query: all events of one execution, in order (timeline, and rebuilding its projections).';

CREATE INDEX events_by_source ON normalizer.events USING brin (source_topic, source_partition, source_offset int8_minmax_multi_ops) WITH (pages_per_range='16');
COMMENT ON INDEX normalizer.events_by_source IS 'Query: which event did this record become (explain), and is it stored already under any id (replay).';

CREATE INDEX events_by_trace ON normalizer.events USING btree (hashtext(trace_id)) WHERE (trace_id IS NOT NULL);
COMMENT ON INDEX normalizer.events_by_trace IS 'Query: the executions of a trace (search).';

CREATE INDEX gaps_by_age ON normalizer.gaps USING btree (found_at);
COMMENT ON INDEX normalizer.gaps_by_age IS 'Query: delete rows that are older than the retention.';

CREATE INDEX job_batches_by_run ON normalizer.job_batches USING btree (job_id, run, batch_id);
COMMENT ON INDEX normalizer.job_batches_by_run IS 'Query: the last batch of a run (ledger verify), and delete those of a deleted run.';

CREATE INDEX quarantine_by_execution ON normalizer.quarantine USING btree (execution_id) WHERE (execution_id IS NOT NULL);
COMMENT ON INDEX normalizer.quarantine_by_execution IS 'Query: the rejected records of an execution (its page, search, forget).';
COMMENT ON INDEX normalizer.quarantine_by_source IS 'One entry for each record or event. Query: was this record refused already (replay)?';

CREATE INDEX quarantine_by_time ON normalizer.quarantine USING btree (quarantined_at, reason);
COMMENT ON INDEX normalizer.quarantine_by_time IS 'Query: list entries by time (quarantine list), and count them by reason (the quarantine views).';

CREATE INDEX quarantine_raw_by_age ON normalizer.quarantine_raw USING btree (kept_at);
COMMENT ON INDEX normalizer.quarantine_raw_by_age IS 'Query: delete bytes that are older than the retention.';

CREATE INDEX siblings_by_shared_id ON normalizer.events USING hash (normalizer.shared_id(coercions)) WHERE (((merge_flags)::integer & 8) <> 0);
COMMENT ON INDEX normalizer.siblings_by_shared_id IS 'Query: the siblings of an event, which share its event_id. Their executions leave together.';

CREATE INDEX calls_by_begin ON projector.call_facts USING btree (projector.hour_of(begun_at)) WHERE (finished_at IS NULL);
COMMENT ON INDEX projector.calls_by_begin IS 'Query: unfinished calls by hour of their begin (view open_calls).';

CREATE INDEX calls_by_command ON projector.call_facts USING btree (command_id, execution_id, attempts);
COMMENT ON INDEX projector.calls_by_command IS 'Query: the attempts of a command whose execution is not known (view calls).';

CREATE INDEX calls_by_error ON projector.call_facts USING btree (projector.error_class_of(COALESCE(projector.call_error(error_ranked), ''::text)), finished_at) WHERE ((finished_at IS NOT NULL) AND projector.call_failed(outcome_ranked));
COMMENT ON INDEX projector.calls_by_error IS 'Query: the first and the last failed call of an error class, with a sample (view error_groups).';

CREATE INDEX calls_by_hour ON projector.call_facts USING btree (projector.hour_of(COALESCE(finished_at, begun_at)));
COMMENT ON INDEX projector.calls_by_hour IS 'Query: calls by hour of their end, or of their begin if they still run (view calls).';

CREATE INDEX calls_failed ON projector.call_facts USING btree (execution_id, projector.ranked_value(step_ranked), COALESCE(iteration, '-1'::integer), attempts, finished_at) WHERE projector.call_failed(outcome_ranked);
COMMENT ON INDEX projector.calls_failed IS 'Query: the failure before a retry, and the next failure after one (stale_retry_links, retry_candidates).';

CREATE INDEX calls_retried ON projector.call_facts USING btree (execution_id, projector.ranked_value(step_ranked), COALESCE(iteration, '-1'::integer), attempts, begun_at) WHERE (attempts > 0);
COMMENT ON INDEX projector.calls_retried IS 'Query: retries of one step and iteration that began after a failure (retry_candidates).';

CREATE INDEX calls_unfinished ON projector.call_facts USING btree (execution_id) WHERE (finished_at IS NULL);
COMMENT ON INDEX projector.calls_unfinished IS 'Query: the unfinished calls of an execution (view stuck_reasons).';

CREATE INDEX divergences_open ON projector.divergences USING btree (projection, execution_id, hour) WHERE (ended_at IS NULL);
COMMENT ON INDEX projector.divergences_open IS 'Query: open divergences (view agreement, projector repair).';

CREATE INDEX executions_by_begin ON projector.execution_facts USING brin (projector.hour_of(begin_at) timestamptz_minmax_multi_ops) WITH (pages_per_range='32');
COMMENT ON INDEX projector.executions_by_begin IS 'Query: executions that began in an hour (verify only). Block ranges are as fast as a tree of 25 times the size; several ranges for each block, because some events arrive long after (measured: 400,000 executions, 2 % late).';

CREATE INDEX executions_by_end ON projector.execution_facts USING btree (projector.hour_of(LEAST(completed_at, failed_at, cancelled_at))) WHERE (projector.hour_of(LEAST(completed_at, failed_at, cancelled_at)) IS NOT NULL);
COMMENT ON INDEX projector.executions_by_end IS 'Query: executions that ended in an hour (contradicting_executions, completed_with_failures, verify).';

CREATE INDEX executions_by_hour ON projector.execution_facts USING btree (projector.hour_of(first_at));
COMMENT ON INDEX projector.executions_by_hour IS 'Query: executions by hour of the first event (view executions).';

CREATE INDEX executions_by_parent ON projector.execution_facts USING btree (parent_execution_id) WHERE (parent_execution_id IS NOT NULL);
COMMENT ON INDEX projector.executions_by_parent IS 'Query: executions that one execution started (API: the tree of an execution, and lists by parent).';

CREATE INDEX executions_running ON projector.execution_facts USING btree (projector.hour_of(first_at)) WHERE ((completed_at IS NULL) AND (failed_at IS NULL) AND (cancelled_at IS NULL));
COMMENT ON INDEX projector.executions_running IS 'Query: running executions, however old (view stuck_executions).';

CREATE STATISTICS projector.ends_of_executions ON LEAST(completed_at, failed_at, cancelled_at) FROM projector.execution_facts;
COMMENT ON STATISTICS projector.ends_of_executions IS 'Tells the planner how many executions ended in a window.';

CREATE OR REPLACE VIEW projector.jobs AS
 WITH held AS (
         SELECT (((pg_locks.classid)::bigint << 32) | (pg_locks.objid)::bigint) AS lock_key
           FROM pg_locks
          WHERE ((pg_locks.locktype = 'advisory'::text) AND (pg_locks.objsubid = 1) AND pg_locks.granted AND (pg_locks.database = ( SELECT pg_database.oid
                   FROM pg_database
                  WHERE (pg_database.datname = current_database()))))
        )
 SELECT job.job_id,
    job.run,
    job.kind,
    job.spec,
        CASE
            WHEN ((job.state <> 'running'::text) OR (EXISTS ( SELECT
               FROM held
              WHERE (held.lock_key = job.lock_key)))) THEN job.state
            ELSE 'interrupted'::text
        END AS state,
    job.reason,
    job.progress_ratio,
    job.records_per_s,
        CASE
            WHEN ((job.state = 'running'::text) AND (job.progress_ratio > (0)::double precision) AND (job.progress_ratio < (1)::double precision) AND (job.records_per_s > (0)::double precision)) THEN ((((COALESCE(sum(part.records), (0)::numeric))::double precision * ((1)::double precision - job.progress_ratio)) / job.progress_ratio) / job.records_per_s)
            ELSE NULL::double precision
        END AS remaining_s,
    job.throttled_by_lag_s,
    job.throttled_by_rate_s,
    (COALESCE(sum(part.records), (0)::numeric))::bigint AS records,
    (COALESCE(sum(part.holes), (0)::numeric))::bigint AS holes,
    (COALESCE(sum(part.expired), (0)::numeric))::bigint AS expired,
    (COALESCE(sum(part.outcomes), (0)::numeric))::bigint AS outcomes,
    (COALESCE(sum(part.stored), (0)::numeric))::bigint AS stored,
    (COALESCE(sum(part.duplicate), (0)::numeric))::bigint AS duplicate,
    (COALESCE(sum(part.merged), (0)::numeric))::bigint AS merged,
    (COALESCE(sum(part.quarantined), (0)::numeric))::bigint AS quarantined,
    (COALESCE(sum(part.ignored), (0)::numeric))::bigint AS ignored,
    (COALESCE(sum(part.changed), (0)::numeric))::bigint AS changed,
    (COALESCE(sum(part.unchanged), (0)::numeric))::bigint AS unchanged,
    (COALESCE(sum(part.refused), (0)::numeric))::bigint AS refused,
    job.started_at,
    job.updated_at,
    job.ended_at
   FROM (normalizer.jobs job
     LEFT JOIN normalizer.job_parts part USING (job_id, run))
  GROUP BY job.job_id, job.run;

CREATE TRIGGER drop_source_heartbeats_of_deleted AFTER DELETE ON normalizer.source_positions REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION normalizer.drop_source_heartbeats();

CREATE TRIGGER drop_source_heartbeats_of_truncated AFTER TRUNCATE ON normalizer.source_positions FOR EACH STATEMENT EXECUTE FUNCTION normalizer.drop_source_heartbeats();

CREATE TRIGGER keep_dedup_horizon_of_deleted BEFORE DELETE ON normalizer.source_positions FOR EACH STATEMENT EXECUTE FUNCTION normalizer.keep_dedup_horizon();

CREATE TRIGGER keep_dedup_horizon_of_truncated BEFORE TRUNCATE ON normalizer.source_positions FOR EACH STATEMENT EXECUTE FUNCTION normalizer.keep_dedup_horizon();

CREATE TRIGGER note_changes_inserted AFTER INSERT ON normalizer.events REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION normalizer.note_event_changes();

CREATE TRIGGER note_changes_updated AFTER UPDATE ON normalizer.events REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION normalizer.note_event_changes();

CREATE TRIGGER project_0_off_deleted AFTER DELETE ON normalizer.events REFERENCING OLD TABLE AS before FOR EACH STATEMENT WHEN ((current_setting('projector.off'::text, true) = 'on'::text)) EXECUTE FUNCTION projector.project_off();

CREATE TRIGGER project_0_off_inserted AFTER INSERT ON normalizer.events REFERENCING NEW TABLE AS after FOR EACH STATEMENT WHEN ((current_setting('projector.off'::text, true) = 'on'::text)) EXECUTE FUNCTION projector.project_off();

CREATE TRIGGER project_0_off_updated AFTER UPDATE ON normalizer.events REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT WHEN ((current_setting('projector.off'::text, true) = 'on'::text)) EXECUTE FUNCTION projector.project_off();

CREATE TRIGGER project_1_executions_deleted AFTER DELETE ON normalizer.events REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION projector.project_executions();

CREATE TRIGGER project_1_executions_inserted AFTER INSERT ON normalizer.events REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION projector.project_executions();

CREATE TRIGGER project_1_executions_updated AFTER UPDATE ON normalizer.events REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION projector.project_executions();

CREATE TRIGGER project_2_calls_deleted AFTER DELETE ON normalizer.events REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION projector.project_calls();

CREATE TRIGGER project_2_calls_inserted AFTER INSERT ON normalizer.events REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION projector.project_calls();

CREATE TRIGGER project_2_calls_updated AFTER UPDATE ON normalizer.events REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION projector.project_calls();

CREATE TRIGGER project_3_counters_archived AFTER DELETE ON normalizer.events REFERENCING OLD TABLE AS before FOR EACH STATEMENT WHEN ((current_setting('projector.archiving'::text, true) = 'on'::text)) EXECUTE FUNCTION projector.project_counters('archived');

CREATE TRIGGER project_3_counters_deleted AFTER DELETE ON normalizer.events REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION projector.project_counters();

CREATE TRIGGER project_3_counters_inserted AFTER INSERT ON normalizer.events REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION projector.project_counters();

CREATE TRIGGER project_3_counters_updated AFTER UPDATE ON normalizer.events REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION projector.project_counters();

CREATE TRIGGER project_deleted AFTER DELETE ON normalizer.quarantine REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION projector.project_quarantine();

CREATE TRIGGER project_inserted AFTER INSERT ON normalizer.quarantine REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION projector.project_quarantine();

CREATE TRIGGER project_truncated AFTER TRUNCATE ON normalizer.events FOR EACH STATEMENT EXECUTE FUNCTION projector.project_truncate('event_minutes', 'event_hours', 'arrival_hours', 'coercion_hours', 'execution_facts', 'execution_hours', 'call_facts', 'call_hours', 'call_times', 'worker_hours', 'error_hours', 'retry_minutes');

CREATE TRIGGER project_truncated AFTER TRUNCATE ON normalizer.quarantine FOR EACH STATEMENT EXECUTE FUNCTION projector.project_truncate('quarantine_hours');

CREATE TRIGGER project_updated AFTER UPDATE ON normalizer.quarantine REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION projector.project_quarantine();

ALTER TABLE ONLY normalizer.job_parts
    ADD CONSTRAINT job_parts_of_job FOREIGN KEY (job_id, run) REFERENCES normalizer.jobs(job_id, run);

ALTER TABLE ONLY normalizer.redrive_attempts
    ADD CONSTRAINT redrive_attempts_of_entry FOREIGN KEY (quarantine_id) REFERENCES normalizer.quarantine(quarantine_id) ON DELETE CASCADE;

GRANT USAGE ON SCHEMA migrations TO PUBLIC;
GRANT USAGE ON SCHEMA normalizer TO normalizer_writer;
GRANT USAGE ON SCHEMA normalizer TO projector_reader;
GRANT USAGE ON SCHEMA normalizer TO normalizer_redriver;
GRANT USAGE ON SCHEMA projector TO normalizer_writer;
GRANT USAGE ON SCHEMA projector TO projector_reader;
REVOKE ALL ON FUNCTION normalizer.drop_source_heartbeats() FROM PUBLIC;
REVOKE ALL ON FUNCTION normalizer.gen_snowflake() FROM PUBLIC;
GRANT ALL ON FUNCTION normalizer.gen_snowflake() TO normalizer_writer;
REVOKE ALL ON FUNCTION normalizer.keep_dedup_horizon() FROM PUBLIC;
REVOKE ALL ON FUNCTION normalizer.note_event_changes() FROM PUBLIC;
REVOKE ALL ON FUNCTION normalizer.snowflake_at(unix_ms bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.archive_executions(execution_ids bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.compact_shards(counter_table text, time_column text, since timestamp with time zone, until timestamp with time zone) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.count_calls(counts projector.call_count[], into_shard smallint) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.count_changed_calls(counts projector.call_count[], touched projector.call_id[], linked projector.call_id[], old_failures projector.call_failure[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.count_executions(moved projector.execution_move[]) FROM PUBLIC;
GRANT USAGE ON SEQUENCE normalizer.batch_id TO normalizer_writer;
GRANT SELECT,INSERT,UPDATE ON TABLE normalizer.events TO normalizer_writer;
REVOKE ALL ON FUNCTION projector.events_at(event_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION projector.events_at(event_ids bigint[]) TO projector_reader;
REVOKE ALL ON FUNCTION projector.events_of(execution_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION projector.events_of(execution_ids bigint[]) TO projector_reader;
REVOKE ALL ON FUNCTION projector.locate_record(topic text, partition integer, source_offset bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION projector.locate_record(topic text, partition integer, source_offset bigint) TO projector_reader;
REVOKE ALL ON FUNCTION projector.locate_trace(trace_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION projector.locate_trace(trace_id text) TO projector_reader;
REVOKE ALL ON FUNCTION projector.lock_executions(execution_ids bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.merge_calls(changes projector.call_change[], rebuilt projector.call_command[], OUT ended projector.call_id[], OUT failed projector.call_id[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.merge_executions(changes projector.execution_change[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.project_calls() FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.project_counters() FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.project_executions() FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.project_off() FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.project_quarantine() FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.project_truncate() FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.rebuild_calls(commands projector.call_command[], OUT touched projector.call_id[], OUT linked projector.call_id[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.rebuild_executions(execution_ids bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.remove_whole_executions(changes projector.execution_change[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.rename_counts(counter_table text, text_column text, time_column text, since timestamp with time zone, until timestamp with time zone, old_values text[], new_values text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.repair_executions(execution_ids bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION projector.take_shard() FROM PUBLIC;
GRANT SELECT ON TABLE migrations.applied TO PUBLIC;
GRANT SELECT ON TABLE normalizer.archived_rows TO normalizer_writer;
GRANT SELECT,INSERT ON TABLE normalizer.assigned_ids TO normalizer_writer;
GRANT SELECT,INSERT,UPDATE ON TABLE normalizer.dedup_horizon TO normalizer_writer;
GRANT SELECT,INSERT ON TABLE normalizer.drift_findings TO normalizer_writer;
GRANT SELECT,DELETE ON TABLE normalizer.event_changes TO normalizer_writer;
GRANT SELECT,INSERT,DELETE ON TABLE normalizer.event_relay TO normalizer_writer;
GRANT UPDATE(sent_transaction_id) ON TABLE normalizer.event_relay TO normalizer_writer;
GRANT UPDATE(sent_change_id) ON TABLE normalizer.event_relay TO normalizer_writer;
GRANT SELECT ON TABLE normalizer.forgotten_executions TO normalizer_writer;
GRANT SELECT,INSERT,UPDATE ON TABLE normalizer.gaps TO normalizer_writer;
GRANT SELECT,INSERT ON TABLE normalizer.job_batches TO normalizer_writer;
GRANT SELECT,INSERT,UPDATE ON TABLE normalizer.job_parts TO normalizer_writer;
GRANT SELECT,INSERT ON TABLE normalizer.job_refusals TO normalizer_writer;
GRANT SELECT,INSERT,UPDATE ON TABLE normalizer.jobs TO normalizer_writer;
GRANT SELECT ON TABLE normalizer.layout TO normalizer_writer;
GRANT SELECT,INSERT ON TABLE normalizer.merged_records TO normalizer_writer;
GRANT SELECT,INSERT ON TABLE normalizer.position_changes TO normalizer_writer;
GRANT SELECT,INSERT ON TABLE normalizer.quarantine TO normalizer_writer;
GRANT UPDATE(redriven_at) ON TABLE normalizer.quarantine TO normalizer_writer;
GRANT INSERT ON TABLE normalizer.quarantine_raw TO normalizer_writer;
GRANT SELECT ON TABLE normalizer.quarantine_raw TO normalizer_redriver;
GRANT SELECT(source_topic) ON TABLE normalizer.quarantine_raw TO normalizer_writer;
GRANT SELECT(source_incarnation) ON TABLE normalizer.quarantine_raw TO normalizer_writer;
GRANT SELECT(source_partition) ON TABLE normalizer.quarantine_raw TO normalizer_writer;
GRANT SELECT(source_offset) ON TABLE normalizer.quarantine_raw TO normalizer_writer;
GRANT SELECT,INSERT ON TABLE normalizer.redrive_attempts TO normalizer_writer;
GRANT SELECT ON TABLE normalizer.retention_horizon TO normalizer_writer;
GRANT SELECT,INSERT,UPDATE ON TABLE normalizer.source_heartbeats TO normalizer_writer;
GRANT SELECT,INSERT,UPDATE ON TABLE normalizer.source_positions TO normalizer_writer;
GRANT SELECT,INSERT,UPDATE ON TABLE normalizer.source_topics TO normalizer_writer;
GRANT SELECT ON TABLE projector.agreement TO normalizer_writer;
GRANT SELECT ON TABLE projector.agreement TO projector_reader;
GRANT SELECT ON TABLE projector.attempts_by_status TO normalizer_writer;
GRANT SELECT ON TABLE projector.attempts_by_status TO projector_reader;
GRANT SELECT ON TABLE projector.calls TO normalizer_writer;
GRANT SELECT ON TABLE projector.calls TO projector_reader;
GRANT SELECT ON TABLE projector.attempts_in_order TO normalizer_writer;
GRANT SELECT ON TABLE projector.attempts_in_order TO projector_reader;
GRANT SELECT ON TABLE projector.call_outcomes_by_attempt TO normalizer_writer;
GRANT SELECT ON TABLE projector.call_outcomes_by_attempt TO projector_reader;
GRANT SELECT ON TABLE projector.call_time_histogram TO normalizer_writer;
GRANT SELECT ON TABLE projector.call_time_histogram TO projector_reader;
GRANT SELECT ON TABLE projector.calls_without_command TO normalizer_writer;
GRANT SELECT ON TABLE projector.calls_without_command TO projector_reader;
GRANT SELECT ON TABLE projector.coercions_by_rule TO normalizer_writer;
GRANT SELECT ON TABLE projector.coercions_by_rule TO projector_reader;
GRANT SELECT ON TABLE projector.completed_with_failures TO normalizer_writer;
GRANT SELECT ON TABLE projector.completed_with_failures TO projector_reader;
GRANT SELECT ON TABLE projector.contradicting_executions TO normalizer_writer;
GRANT SELECT ON TABLE projector.contradicting_executions TO projector_reader;
GRANT SELECT ON TABLE projector.defaults_by_shape TO normalizer_writer;
GRANT SELECT ON TABLE projector.defaults_by_shape TO projector_reader;
GRANT SELECT ON TABLE projector.drift TO normalizer_writer;
GRANT SELECT ON TABLE projector.drift TO projector_reader;
GRANT SELECT ON TABLE projector.error_groups TO normalizer_writer;
GRANT SELECT ON TABLE projector.error_groups TO projector_reader;
GRANT SELECT ON TABLE projector.event_counts TO normalizer_writer;
GRANT SELECT ON TABLE projector.event_counts TO projector_reader;
GRANT SELECT ON TABLE projector.execution_outcomes TO normalizer_writer;
GRANT SELECT ON TABLE projector.execution_outcomes TO projector_reader;
GRANT SELECT ON TABLE projector.execution_timeline TO normalizer_writer;
GRANT SELECT ON TABLE projector.execution_timeline TO projector_reader;
GRANT SELECT ON TABLE projector.executions TO normalizer_writer;
GRANT SELECT ON TABLE projector.executions TO projector_reader;
GRANT SELECT ON TABLE projector.freshness TO normalizer_writer;
GRANT SELECT ON TABLE projector.freshness TO projector_reader;
GRANT SELECT ON TABLE projector.executions_without_end TO normalizer_writer;
GRANT SELECT ON TABLE projector.executions_without_end TO projector_reader;
GRANT SELECT ON TABLE projector.failed_calls TO normalizer_writer;
GRANT SELECT ON TABLE projector.failed_calls TO projector_reader;
GRANT SELECT ON TABLE projector.failures_by_error TO normalizer_writer;
GRANT SELECT ON TABLE projector.failures_by_error TO projector_reader;
GRANT SELECT ON TABLE projector.gaps TO normalizer_writer;
GRANT SELECT ON TABLE projector.gaps TO projector_reader;
GRANT SELECT ON TABLE projector.jobs TO normalizer_writer;
GRANT SELECT ON TABLE projector.jobs TO projector_reader;
GRANT SELECT ON TABLE projector.late_arrivals TO normalizer_writer;
GRANT SELECT ON TABLE projector.late_arrivals TO projector_reader;
GRANT SELECT ON TABLE projector.loops TO normalizer_writer;
GRANT SELECT ON TABLE projector.loops TO projector_reader;
GRANT SELECT ON TABLE projector.open_calls TO normalizer_writer;
GRANT SELECT ON TABLE projector.open_calls TO projector_reader;
GRANT SELECT ON TABLE projector.playbook_versions TO normalizer_writer;
GRANT SELECT ON TABLE projector.playbook_versions TO projector_reader;
GRANT SELECT ON TABLE projector.quarantine_by_reason TO normalizer_writer;
GRANT SELECT ON TABLE projector.quarantine_by_reason TO projector_reader;
GRANT SELECT ON TABLE projector.quarantine_records TO normalizer_writer;
GRANT SELECT ON TABLE projector.quarantine_records TO projector_reader;
GRANT SELECT ON TABLE projector.redrive_attempts TO normalizer_writer;
GRANT SELECT ON TABLE projector.redrive_attempts TO projector_reader;
GRANT SELECT ON TABLE projector.retries_by_minute TO normalizer_writer;
GRANT SELECT ON TABLE projector.retries_by_minute TO projector_reader;
GRANT SELECT ON TABLE projector.retry_storms TO normalizer_writer;
GRANT SELECT ON TABLE projector.retry_storms TO projector_reader;
GRANT SELECT ON TABLE projector.stuck_executions TO normalizer_writer;
GRANT SELECT ON TABLE projector.stuck_executions TO projector_reader;
GRANT SELECT ON TABLE projector.stuck_reasons TO normalizer_writer;
GRANT SELECT ON TABLE projector.stuck_reasons TO projector_reader;
GRANT SELECT ON TABLE projector.worker_failures TO normalizer_writer;
GRANT SELECT ON TABLE projector.worker_failures TO projector_reader;
