-- The figures, from the canonical events: run after tables.sql in the same session.

CREATE FUNCTION calls_of AS 'functions.calls_of' LANGUAGE PYTHON;

-- One row an event: of messages with one execution_id and event_id the one of the greatest revision,
-- or the first. Both are needed: events of two executions can have one id.
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

-- The playbook of an execution: the path that the event which begins it names, or else the step of
-- a lifecycle event. The least of texts that begin with rank and time.
CREATE VIEW executions AS
SELECT   `execution_id`, SUBSTRING(MIN(`ranked`) FROM 29) AS `playbook`
FROM     (
             SELECT `execution_id`,
                    CASE
                        WHEN `begins` AND `path` <> ''
                        THEN '0' || `created_at` || SUBSTRING(`path` FROM 1 FOR 200)
                        WHEN `step` <> ''
                        THEN '1' || `created_at` || SUBSTRING(`step` FROM 1 FOR 200)
                    END AS `ranked`
             FROM   (
                        SELECT *,
                               `event_type` IN (
                                   'playbook.initialized', 'playbook_initialized',
                                   'playbook.started', 'playbook_started',
                                   'execution.started', 'execution_start', 'execution.start',
                                   'execution_started'
                               ) AS `begins`
                        FROM   `events`
                    )
             WHERE  `begins`
             OR     `event_type` IN (
                        'playbook.completed', 'playbook_completed', 'execution.completed',
                        'execution_complete', 'execution_completed', 'playbook.failed',
                        'playbook_failed', 'execution.failed', 'execution_error',
                        'execution_failed', 'playbook.cancelled', 'playbook_cancelled',
                        'execution.cancelled', 'execution_cancelled'
                    )
         )
WHERE    `ranked` IS NOT NULL
GROUP BY `execution_id`;

-- One row for each attempt of a command. A command is folded again with each of its events.
CREATE VIEW calls AS
SELECT `execution_id`, `command_id`, `iteration`, `attempts`, `step`, `status`, `error_class`,
       `begun_us`, `finished_us`, `duration_us`, `queue_us`, `exhausted`, `attribution`
FROM   (
           SELECT   `execution_id`, `command_id`,
                    CAST(REGEXP_EXTRACT(`command_id`, ':i([0-9]{1,10})$', 1) AS BIGINT)
                        AS `iteration`,
                    ARRAY_AGG(
                        ROW(
                            `event_type`, `created_at`, `number`, `status`, `step`,
                            `max_attempts`, `duration`, `error`, `pending_callback`,
                            `call_index`, `place`
                        )
                    ) AS `said`
           FROM     `events`
           WHERE    `command_id` <> ''
           AND      `event_type` IN (
                        'command.issued', 'command_issued', 'command.claimed',
                        'command_claimed', 'command.started', 'action_started',
                        'command_started', 'command.completed', 'action_completed',
                        'command.failed', 'action_failed', 'command.timed_out',
                        'command.timeout', 'command.cancelled', 'call.done', 'action_done',
                        'call_done', 'call.error'
                    )
           GROUP BY `execution_id`, `command_id`
       ),
       LATERAL TABLE(calls_of(`said`)) AS folded (
           `attempts`, `step`, `status`, `error_class`, `begun_us`, `finished_us`, `duration_us`,
           `queue_us`, `exhausted`, `attribution`
       )
WHERE  `step` <> '__orchestrate__';

-- Attempts that ended, with the playbook of their execution.
CREATE VIEW ended_calls AS
SELECT calls.*, COALESCE(executions.`playbook`, '') AS `playbook`,
       (`finished_us` - MOD(`finished_us`, 3600000000)) / 1000000 AS `hour_s`
FROM   calls
LEFT JOIN executions ON executions.`execution_id` = calls.`execution_id`
WHERE  calls.`finished_us` IS NOT NULL;

-- How long a retry waited after the last failure before it: of the same command, or of the same
-- step and iteration, with one attempt less.
CREATE VIEW backoffs AS
SELECT   retry.`hour_s`, retry.`playbook`, retry.`step`, retry.`attempts`, retry.`status`,
         retry.`begun_us` - MAX(failure.`finished_us`) AS `backoff_us`
FROM     ended_calls AS retry
JOIN     ended_calls AS failure
ON       failure.`execution_id` = retry.`execution_id`
AND      failure.`attempts` = retry.`attempts` - 1
AND      failure.`status` <> 'COMPLETED'
AND      failure.`finished_us` <= retry.`begun_us`
AND      (
             failure.`command_id` = retry.`command_id`
             OR failure.`step` = retry.`step` AND retry.`step` <> ''
                AND COALESCE(failure.`iteration`, -1) = COALESCE(retry.`iteration`, -1)
         )
WHERE    retry.`attempts` > 0
GROUP BY retry.`execution_id`, retry.`command_id`, retry.`hour_s`, retry.`playbook`, retry.`step`,
         retry.`attempts`, retry.`status`, retry.`begun_us`;

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
FROM   backoffs;

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
