-- Tells Flink where to read canonical events, and where to store the figures. start.py runs this
-- file, with your addresses in place of kafka:9092 and postgres:5432.

SET 'pipeline.name' = 'projections';
SET 'table.local-time-zone' = 'UTC';
-- Views that several figures read are computed once, and have one state.
SET 'table.optimizer.reuse-optimize-block-with-digest-enabled' = 'true';
SET 'state.backend.type' = 'rocksdb';
SET 'execution.checkpointing.interval' = '10 s';
-- Each step of the job passes its results on only with a checkpoint, and not with each message. So
-- a job that dies has written nothing to PostgreSQL since its last checkpoint (README.md).
SET 'table.exec.mini-batch.enabled' = 'true';
SET 'table.exec.mini-batch.allow-latency' = '1 d';
SET 'table.exec.mini-batch.size' = '100000';
-- start.py continues from the last checkpoint of a job that failed or was cancelled.
SET 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';
-- The state of an execution that gets no event for so long may be dropped: README.md.
SET 'table.exec.state.ttl' = '7 d';

-- Committed transactions only. Times stay text: RFC 3339 in UTC with six digits sorts like time.
CREATE TABLE canonical_topic (
    `event_id`     BIGINT,
    `execution_id` BIGINT,
    `event_type`   STRING,
    `step`         STRING,
    `status`       STRING,
    `created_at`   STRING,
    `context`      STRING,
    `result`       STRING,
    `meta`         STRING,
    `command_id`   STRING,
    `error`        STRING,
    `duration`     DOUBLE,
    `headers`      MAP<STRING, BYTES> METADATA VIRTUAL,
    `partition`    INT METADATA VIRTUAL,
    `offset`       BIGINT METADATA VIRTUAL,
    `timestamp`    TIMESTAMP_LTZ(3) METADATA VIRTUAL
) WITH (
    'connector' = 'kafka',
    'topic' = 'noetl.events.canonical',
    'properties.bootstrap.servers' = 'kafka:9092',
    'properties.group.id' = 'flink-projections',
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset',
    'format' = 'json'
);

CREATE TABLE event_hours (
    `hour_s`             BIGINT,
    `step`               STRING,
    `event_type`         STRING,
    `status`             STRING,
    `attempts`           INT,
    `events`             BIGINT,
    `attempts_defaulted` BIGINT,
    PRIMARY KEY (`hour_s`, `step`, `event_type`, `status`, `attempts`) NOT ENFORCED
) WITH (
    'connector' = 'jdbc',
    'sink.buffer-flush.max-rows' = '5000',
    'url' = 'jdbc:postgresql://postgres:5432/figures',
    'table-name' = 'flink.event_hours'
);

CREATE TABLE call_hours (
    `hour_s`    BIGINT,
    `playbook`  STRING,
    `step`      STRING,
    `attempts`  INT,
    `status`    STRING,
    `calls`     BIGINT,
    `exhausted` BIGINT,
    `inferred`  BIGINT,
    PRIMARY KEY (`hour_s`, `playbook`, `step`, `attempts`, `status`) NOT ENFORCED
) WITH (
    'connector' = 'jdbc',
    'sink.buffer-flush.max-rows' = '5000',
    'url' = 'jdbc:postgresql://postgres:5432/figures',
    'table-name' = 'flink.call_hours'
);

CREATE TABLE call_times (
    `hour_s`   BIGINT,
    `measure`  STRING,
    `playbook` STRING,
    `step`     STRING,
    `attempts` INT,
    `status`   STRING,
    `bucket`   INT,
    `calls`    BIGINT,
    PRIMARY KEY (`hour_s`, `measure`, `playbook`, `step`, `attempts`, `status`, `bucket`) NOT ENFORCED
) WITH (
    'connector' = 'jdbc',
    'sink.buffer-flush.max-rows' = '5000',
    'url' = 'jdbc:postgresql://postgres:5432/figures',
    'table-name' = 'flink.call_times'
);

CREATE TABLE error_hours (
    `hour_s`      BIGINT,
    `step`        STRING,
    `attempts`    INT,
    `status`      STRING,
    `error_class` STRING,
    `calls`       BIGINT,
    PRIMARY KEY (`hour_s`, `step`, `attempts`, `status`, `error_class`) NOT ENFORCED
) WITH (
    'connector' = 'jdbc',
    'sink.buffer-flush.max-rows' = '5000',
    'url' = 'jdbc:postgresql://postgres:5432/figures',
    'table-name' = 'flink.error_hours'
);

CREATE TABLE partitions (
    `partition`   INT,
    `next_offset` BIGINT,
    `recorded_s` BIGINT,
    PRIMARY KEY (`partition`) NOT ENFORCED
) WITH (
    'connector' = 'jdbc',
    'sink.buffer-flush.max-rows' = '5000',
    'url' = 'jdbc:postgresql://postgres:5432/figures',
    'table-name' = 'flink.partitions'
);
