-- Whose call was refused and then, within ten minutes, went through?
WITH calls AS (
  SELECT timestamp, dataset, user_name, event_action, event_outcome, keytrail_uid,
    lag(event_outcome) OVER (PARTITION BY dataset, user_name, event_action ORDER BY timestamp, keytrail_uid) AS outcome_before,
    lag(timestamp) OVER (PARTITION BY dataset, user_name, event_action ORDER BY timestamp, keytrail_uid) AS time_before
  FROM events
  WHERE user_name IS NOT NULL AND event_outcome IN ('success', 'failure') AND timestamp IS NOT NULL)
SELECT timestamp, dataset, user_name, event_action, time_before
FROM calls
WHERE outcome_before = 'failure' AND event_outcome = 'success' AND timestamp <= time_before + INTERVAL '10 minutes'
ORDER BY timestamp, keytrail_uid;
