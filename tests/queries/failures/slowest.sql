-- The slowest operations of each class
SELECT keytrail_action_class, event_duration, timestamp, keytrail_operation_id
FROM (
  SELECT keytrail_action_class, event_duration, timestamp, keytrail_operation_id,
    dense_rank() OVER (PARTITION BY keytrail_action_class ORDER BY event_duration DESC) AS place
  FROM events
  WHERE event_duration > 0 AND keytrail_action_class IS NOT NULL) AS timed
WHERE place <= 2;
