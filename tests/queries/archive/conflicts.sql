-- Which events share their producer's id and differ?
SELECT event_dataset, keytrail_scope, event_id, count(DISTINCT keytrail_uid) AS events
FROM events
WHERE keytrail_scope IS NOT NULL AND event_id IS NOT NULL
GROUP BY event_dataset, keytrail_scope, event_id
HAVING count(DISTINCT keytrail_uid) > 1
ORDER BY event_dataset, keytrail_scope, event_id;
