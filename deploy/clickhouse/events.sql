-- Creates tables for the canonical events in ClickHouse, for searches over all of them and for the
-- figures of figures.sql. It needs ClickHouse 26.2 or newer (text index). Run it once, with the
-- broker's address in place of kafka:9092:
--     clickhouse-client --multiquery < deploy/clickhouse/events.sql
--
-- Kafka may deliver a message twice, and the normalizer sends an event again when it has changed.
-- Every copy is inserted, and `final` shows only the one with the greatest revision, so always read
-- with `final`.

create database if not exists normalizer;
create database if not exists projector;

create table normalizer.events (
    event_id            Int64,
    execution_id        Int64,
    event_type          LowCardinality(String),
    step                LowCardinality(String),
    status              LowCardinality(String),
    attempts            UInt16            comment 'number of attempts before this one',
    attempts_declared   Bool              comment 'false if no producer gave the number',
    max_attempts        Nullable(UInt16),
    place               String            comment 'of its record, if that tells when it happened',
    created_at          DateTime64(6, 'UTC'),
    worker_id           LowCardinality(String),
    command_id          String,
    catalog_id          Nullable(Int64),
    parent_execution_id Nullable(Int64),
    duration            Nullable(Float64) comment 'seconds',
    error               String,
    shape               LowCardinality(String),
    normalizer_version  UInt16,
    trace_id            String,
    revision            UInt64            comment 'of two messages of one event the greater counts',
    line                String            comment 'the canonical event' codec(ZSTD(3)),
    arrived_at          DateTime64(3, 'UTC') default nowInBlock64(3),
    index words   line       type text(tokenizer = splitByNonAlpha),
    index moments created_at type minmax,
    index arrived arrived_at type minmax
)
engine = ReplacingMergeTree(revision)
order by (execution_id, event_id);

-- Passes canonical lines on to the table of events, with the values of their message's headers (''
-- for a missing one). It stores nothing itself. To load history, insert Parquet files here
-- (deploy/flink/README.md).
create table normalizer.canonical_records (
    line          String,
    shape         String,
    rules_version String,
    evidence      String,
    max_attempts  String,
    place         String,
    trace_id      String,
    revision      String
)
engine = Null;

create materialized view normalizer.read_canonical_records to normalizer.events as
select JSONExtractInt(line, 'event_id')             as event_id,
       JSONExtractInt(line, 'execution_id')         as execution_id,
       JSONExtractString(line, 'event_type')        as event_type,
       JSONExtractString(line, 'step')              as step,
       JSONExtractString(line, 'status')            as status,
       JSONExtractUInt(line, 'meta', 'attempts')    as attempts,
       -- Below 100 the attempts were defaulted. Without the header they count as declared.
       coalesce(toUInt16OrNull(evidence) >= 100, true) as attempts_declared,
       toUInt16OrNull(max_attempts)                 as max_attempts,
       place,
       parseDateTime64BestEffort(JSONExtractString(line, 'created_at'), 6, 'UTC') as created_at,
       JSONExtractString(line, 'worker_id')         as worker_id,
       JSONExtractString(line, 'command_id')        as command_id,
       JSONExtract(line, 'catalog_id', 'Nullable(Int64)') as catalog_id,
       JSONExtract(line, 'parent_execution_id', 'Nullable(Int64)') as parent_execution_id,
       JSONExtract(line, 'duration', 'Nullable(Float64)') as duration,
       JSONExtractString(line, 'error')             as error,
       shape,
       toUInt16OrZero(rules_version)                as normalizer_version,
       trace_id,
       toUInt64OrZero(revision)                     as revision,
       line
from   normalizer.canonical_records;

-- One message a line. Reads committed transactions only.
create table normalizer.canonical_topic (line String)
engine = Kafka
settings kafka_broker_list = 'kafka:9092',
         kafka_topic_list  = 'noetl.events.canonical',
         kafka_group_name  = 'clickhouse',
         kafka_format      = 'RawBLOB';

create materialized view normalizer.read_canonical_topic to normalizer.canonical_records as
with   arrayZip(_headers.name, _headers.value)::Map(String, String) as headers
select line,
       headers['shape']         as shape,
       headers['rules_version'] as rules_version,
       headers['evidence']      as evidence,
       headers['max_attempts']  as max_attempts,
       headers['place']         as place,
       headers['trace_id']      as trace_id,
       headers['revision']      as revision
from   normalizer.canonical_topic;
