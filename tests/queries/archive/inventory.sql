-- What is in the archive?
SELECT dataset, keytrail_source, keytrail_normalizer, count(*) AS events, count(DISTINCT keytrail_uid) AS distinct_events,
  count(DISTINCT day) AS days, min(day) AS first_day, max(day) AS last_day
FROM events
GROUP BY dataset, keytrail_source, keytrail_normalizer
ORDER BY dataset, keytrail_source, keytrail_normalizer;
