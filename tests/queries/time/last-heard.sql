-- What was the last event of each source?
SELECT DISTINCT ON (dataset, keytrail_source) dataset, keytrail_source, timestamp, event_action, keytrail_uid
FROM events
WHERE timestamp IS NOT NULL
ORDER BY dataset, keytrail_source, timestamp DESC, keytrail_uid;
