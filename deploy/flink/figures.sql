-- The figures, from the canonical events: run after tables.sql in the same session.

CREATE FUNCTION ended_calls_of AS 'functions.ended_calls_of' LANGUAGE PYTHON;

-- One row per event. If several messages have the same execution_id and event_id, it's the one with
-- the greatest revision, or the first of equals. Both ids are compared, because events of two
-- executions can have the same event_id.
CREATE VIEW `events` AS
SELECT `event_id`, `execution_id`, `event_type`, `step`, `status`, `created_at`, `command_id`,
       `duration`, `error`, `attempts`, `number`, `max_attempts`, `path`, `pending_callback`,
       `call_index`, `place`
FROM   (
           SELECT *, ROW_NUMBER() OVER (
                      PARTITION BY `execution_id`, `event_id` ORDER BY `revision` DESC
                  ) AS `nth`
           FROM   (
                      SELECT `event_id`, `execution_id`, `event_type`, `step`, `status`,
                             `created_at`, `command_id`, `duration`, `error`, `attempts`,
                             -- Below 100 the attempts were defaulted, without the header they
                             -- count as declared.
                             CASE WHEN COALESCE(`evidence`, 100) >= 100 THEN `attempts` END
                                 AS `number`,
                             `max_attempts`,
                             -- A path that is text: quoted in its array.
                             CASE
                                 WHEN `paths` LIKE '["_%"]' THEN JSON_VALUE(`paths`, '$[0]')
                                 WHEN `paths_of_result` LIKE '["_%"]'
                                 THEN JSON_VALUE(`paths_of_result`, '$[0]')
                             END AS `path`,
                             COALESCE(`callback` = '[true]', FALSE)
                                 OR COALESCE(`callback_of_result` = '[true]', FALSE)
                                 AS `pending_callback`,
                             -- Which call of its command this is: an integer of up to nine
                             -- digits in its array, or else 0.
                             COALESCE(
                                 TRY_CAST(
                                     REGEXP_EXTRACT(`indexes`, '^.([0-9]{1,9}).$', 1) AS INT
                                 ),
                                 TRY_CAST(
                                     REGEXP_EXTRACT(
                                         `indexes_of_result`, '^.([0-9]{1,9}).$', 1
                                     ) AS INT
                                 ),
                                 0
                             ) AS `call_index`,
                             `place`, COALESCE(`revision`, 0) AS `revision`
                      FROM   (
                                 SELECT *,
                                        CAST(JSON_VALUE(`meta`, '$.attempts') AS INT)
                                            AS `attempts`,
                                        JSON_QUERY(
                                            `context`, '$.path'
                                            WITH UNCONDITIONAL ARRAY WRAPPER
                                        ) AS `paths`,
                                        JSON_QUERY(
                                            `result`, '$.context.path'
                                            WITH UNCONDITIONAL ARRAY WRAPPER
                                        ) AS `paths_of_result`,
                                        JSON_QUERY(
                                            `context`, '$.pending_callback'
                                            WITH UNCONDITIONAL ARRAY WRAPPER
                                        ) AS `callback`,
                                        JSON_QUERY(
                                            `result`, '$.context.pending_callback'
                                            WITH UNCONDITIONAL ARRAY WRAPPER
                                        ) AS `callback_of_result`,
                                        JSON_QUERY(
                                            `context`, '$.call_index'
                                            WITH UNCONDITIONAL ARRAY WRAPPER
                                        ) AS `indexes`,
                                        JSON_QUERY(
                                            `result`, '$.context.call_index'
                                            WITH UNCONDITIONAL ARRAY WRAPPER
                                        ) AS `indexes_of_result`,
                                        TRY_CAST(DECODE(`headers`['evidence'], 'UTF-8') AS INT)
                                            AS `evidence`,
                                        TRY_CAST(
                                            DECODE(`headers`['max_attempts'], 'UTF-8') AS INT
                                        ) AS `max_attempts`,
                                        DECODE(`headers`['place'], 'UTF-8') AS `place`,
                                        TRY_CAST(DECODE(`headers`['revision'], 'UTF-8') AS BIGINT)
                                            AS `revision`
                                 FROM   canonical_topic
                             )
                  )
       )
WHERE  `nth` = 1;

-- One row per attempt that ended. An execution is computed again when it gets new events. Its
-- playbook is the path that its begin event names, or else the step of a lifecycle event. Each
-- candidate is a text that begins with its rank and time, and the smallest one wins.
CREATE VIEW ended_calls AS
SELECT COALESCE(SUBSTRING(`named` FROM 29), '') AS `playbook`, `step`, `attempts`, `status`,
       `error_class`, (`finished_us` - MOD(`finished_us`, 3600000000)) / 1000000 AS `hour_s`,
       `duration_us`, `queue_us`, `backoff_us`, `exhausted`, `attribution`
FROM   (
           SELECT   `execution_id`,
                    MIN(
                        CASE
                            WHEN `begins` AND `path` <> ''
                            THEN '0' || `created_at` || SUBSTRING(`path` FROM 1 FOR 200)
                            WHEN (`begins` OR `ends`) AND `step` <> ''
                            THEN '1' || `created_at` || SUBSTRING(`step` FROM 1 FOR 200)
                        END
                    ) AS `named`,
                    ARRAY_AGG(
                        ROW(
                            `command_id`, `event_type`, `created_at`, `number`, `status`, `step`,
                            `max_attempts`, `duration`, `error`, `pending_callback`,
                            `call_index`, `place`
                        )
                    ) FILTER (WHERE `is_of_call`) AS `said`
           FROM     (
                        SELECT *,
                               `event_type` IN (
                                   'playbook.initialized', 'playbook_initialized',
                                   'playbook.started', 'playbook_started',
                                   'execution.started', 'execution_start', 'execution.start',
                                   'execution_started'
                               ) AS `begins`,
                               `event_type` IN (
                                   'playbook.completed', 'playbook_completed',
                                   'execution.completed', 'execution_complete',
                                   'execution_completed', 'playbook.failed',
                                   'playbook_failed', 'execution.failed', 'execution_error',
                                   'execution_failed', 'playbook.cancelled',
                                   'playbook_cancelled', 'execution.cancelled',
                                   'execution_cancelled'
                               ) AS `ends`,
                               COALESCE(`command_id`, '') <> '' AND `event_type` IN (
                                   'command.issued', 'command_issued', 'command.claimed',
                                   'command_claimed', 'command.started', 'action_started',
                                   'command_started', 'command.completed', 'action_completed',
                                   'command.failed', 'action_failed', 'command.timed_out',
                                   'command.timeout', 'command.cancelled', 'call.done',
                                   'action_done', 'call_done', 'call.error'
                               ) AS `is_of_call`
                        FROM   `events`
                    )
           WHERE    `begins` OR `ends` OR `is_of_call`
           GROUP BY `execution_id`
       ),
       LATERAL TABLE(ended_calls_of(`said`)) AS folded (
           `step`, `attempts`, `status`, `error_class`, `finished_us`, `duration_us`, `queue_us`,
           `backoff_us`, `exhausted`, `attribution`
       )
WHERE  `step` <> '__orchestrate__';

-- How long a retry waited, its backoff, is measured from the last failure before it.
CREATE VIEW measured AS
SELECT `hour_s`, 'duration' AS `measure`, `playbook`, `step`, `attempts`, `status`,
       `duration_us` AS `us`
FROM   ended_calls
WHERE  `duration_us` IS NOT NULL
UNION ALL
SELECT `hour_s`, 'queue', `playbook`, `step`, `attempts`, `status`, `queue_us`
FROM   ended_calls
WHERE  `queue_us` IS NOT NULL
UNION ALL
SELECT `hour_s`, 'backoff', `playbook`, `step`, `attempts`, `status`, `backoff_us`
FROM   ended_calls
WHERE  `backoff_us` IS NOT NULL;

-- The counts themselves are never dropped: one that is would begin again at zero.
EXECUTE STATEMENT SET
BEGIN

INSERT INTO event_hours
SELECT   /*+ STATE_TTL('dated' = '0 s') */
         `hour_s`, `step`, `event_type`, `status`, `attempts`, COUNT(*),
         COUNT(*) FILTER (WHERE `number` IS NULL)
FROM     (
             SELECT *,
                    UNIX_TIMESTAMP(SUBSTRING(`created_at` FROM 1 FOR 13), 'yyyy-MM-dd''T''HH')
                        AS `hour_s`
             FROM   `events`
         ) AS dated
GROUP BY `hour_s`, `step`, `event_type`, `status`, `attempts`;

INSERT INTO call_hours
SELECT   /*+ STATE_TTL('ended_calls' = '0 s') */
         `hour_s`, `playbook`, `step`, `attempts`, `status`, COUNT(*),
         COUNT(*) FILTER (WHERE `exhausted`),
         COUNT(*) FILTER (WHERE `attribution` = 'inferred')
FROM     ended_calls
GROUP BY `hour_s`, `playbook`, `step`, `attempts`, `status`;

INSERT INTO error_hours
SELECT   /*+ STATE_TTL('ended_calls' = '0 s') */
         `hour_s`, `step`, `attempts`, `status`, `error_class`, COUNT(*)
FROM     ended_calls
WHERE    `status` <> 'COMPLETED'
GROUP BY `hour_s`, `step`, `attempts`, `status`, `error_class`;

INSERT INTO call_times
SELECT   /*+ STATE_TTL('sorted' = '0 s') */
         `hour_s`, `measure`, `playbook`, `step`, `attempts`, `status`, `bucket`, COUNT(*)
FROM     (
             SELECT *,
                    CASE WHEN `us` > 0
                         THEN CAST(FLOOR(8 * LN(`us`) / LN(CAST(2 AS DOUBLE))) AS INT)
                         ELSE -1 END AS `bucket`
             FROM   measured
         ) AS sorted
GROUP BY `hour_s`, `measure`, `playbook`, `step`, `attempts`, `status`, `bucket`;

INSERT INTO partitions
SELECT   /*+ STATE_TTL('canonical_topic' = '0 s') */
         `partition`, MAX(`offset`) + 1,
         MAX(UNIX_TIMESTAMP(DATE_FORMAT(`timestamp`, 'yyyy-MM-dd HH:mm:ss')))
FROM     canonical_topic
GROUP BY `partition`;

END;
