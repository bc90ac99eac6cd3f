-- How many events came of each source on each day?
SELECT day, keytrail_source, count(*) AS events, count(*) FILTER (WHERE event_outcome = 'failure') AS failures
FROM events
GROUP BY day, keytrail_source
ORDER BY day DESC, keytrail_source;
