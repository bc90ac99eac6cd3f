-- How long do operations take: median, 95th percentile and slowest, in milliseconds?
SELECT dataset, keytrail_action_class, count(*) AS operations,
  median(CAST(event_duration AS DOUBLE)) / 1e6 AS median_ms,
  min(event_duration) FILTER (WHERE share >= 0.95) / 1e6 AS p95_ms,
  max(event_duration) / 1e6 AS slowest_ms
FROM (
  SELECT dataset, keytrail_action_class, event_duration,
    cume_dist() OVER (PARTITION BY dataset, keytrail_action_class ORDER BY event_duration) AS share
  FROM events
  WHERE event_duration IS NOT NULL) AS timed
GROUP BY dataset, keytrail_action_class
ORDER BY dataset, keytrail_action_class NULLS LAST;
