-- Which keys were asked for while they were disabled, scheduled for deletion or gone, and did it work?
WITH lives AS (
  SELECT dataset, keytrail_key_id, timestamp, keytrail_action_class, event_outcome,
    max(CASE WHEN keytrail_action_class IN ('disable', 'schedule-deletion', 'destroy') THEN timestamp END) OVER life AS ended_at,
    max(CASE WHEN keytrail_action_class IN ('create', 'import', 'enable', 'cancel-deletion') THEN timestamp END) OVER life AS begun_at
  FROM events
  WHERE keytrail_key_id IS NOT NULL AND (event_outcome = 'success'
    OR keytrail_action_class NOT IN ('disable', 'schedule-deletion', 'destroy', 'create', 'import', 'enable', 'cancel-deletion'))
  WINDOW life AS (PARTITION BY dataset, keytrail_key_id ORDER BY timestamp, keytrail_uid
    ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW))
SELECT dataset, keytrail_key_id, ended_at, event_outcome, count(*) AS uses, max(timestamp) AS last_use
FROM lives
WHERE keytrail_action_class IN ('encrypt', 'decrypt', 'sign', 'generate-data-key')
  AND ended_at IS NOT NULL AND (begun_at IS NULL OR begun_at < ended_at)
GROUP BY dataset, keytrail_key_id, ended_at, event_outcome;
