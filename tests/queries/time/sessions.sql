-- When was each actor at work? Calls of CloudTrail with less than half an hour between them
WITH calls AS (
  SELECT cloud_account_id, user_name, timestamp, keytrail_uid,
    CASE WHEN timestamp <= lag(timestamp) OVER actor + INTERVAL '30 minutes' THEN 0 ELSE 1 END AS begins
  FROM events
  WHERE dataset = 'aws.cloudtrail' AND user_name IS NOT NULL AND timestamp IS NOT NULL
  WINDOW actor AS (PARTITION BY cloud_account_id, user_name ORDER BY timestamp, keytrail_uid)),
numbered AS (
  SELECT cloud_account_id, user_name, timestamp,
    sum(begins) OVER (PARTITION BY cloud_account_id, user_name ORDER BY timestamp, keytrail_uid
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS spell
  FROM calls)
SELECT cloud_account_id, user_name, spell, min(timestamp) AS begins, max(timestamp) AS ends, count(*) AS calls
FROM numbered
GROUP BY cloud_account_id, user_name, spell
HAVING count(*) > 1
ORDER BY cloud_account_id NULLS LAST, user_name, spell;
