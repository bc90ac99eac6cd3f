-- Where did three calls of one actor fail within five minutes?
SELECT dataset, user_name, third_before AS burst_start, timestamp AS burst_end
FROM (
  SELECT dataset, user_name, timestamp, keytrail_uid,
    lag(timestamp, 2) OVER (PARTITION BY dataset, user_name ORDER BY timestamp, keytrail_uid) AS third_before
  FROM events
  WHERE event_outcome = 'failure' AND user_name IS NOT NULL) AS failures
WHERE timestamp <= third_before + INTERVAL '5 minutes';
