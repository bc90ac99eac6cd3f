-- What happened in this hour? (reads that day's objects alone)
SELECT timestamp, event_action, event_outcome, user_name, source_ip
FROM events
WHERE timestamp >= '2023-07-10T12:00:00Z' AND timestamp < '2023-07-10T13:00:00Z' AND dataset = 'aws.cloudtrail'
ORDER BY timestamp, keytrail_uid
LIMIT 50;
