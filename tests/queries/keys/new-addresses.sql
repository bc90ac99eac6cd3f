-- When was each key first used from each address, after it had been in use from another one?
SELECT keytrail_key_id, source_ip, timestamp, event_action, user_name
FROM (
  SELECT keytrail_key_id, source_ip, timestamp, event_action, user_name, keytrail_uid,
    row_number() OVER (PARTITION BY keytrail_key_id, source_ip ORDER BY timestamp, keytrail_uid) AS use_from_there,
    row_number() OVER (PARTITION BY keytrail_key_id ORDER BY timestamp, keytrail_uid) AS use_of_key
  FROM events
  WHERE keytrail_key_id IS NOT NULL AND source_ip IS NOT NULL AND timestamp IS NOT NULL) AS uses
WHERE use_from_there = 1 AND use_of_key > 1
ORDER BY timestamp, keytrail_uid;
