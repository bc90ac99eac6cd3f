-- Which access keys were used, and what were the three newest calls of each?
SELECT keytrail_actor_access_key_id, place, timestamp, event_action, source_ip
FROM (
  SELECT keytrail_actor_access_key_id, timestamp, event_action, source_ip,
    row_number() OVER (PARTITION BY keytrail_actor_access_key_id ORDER BY timestamp DESC, keytrail_uid) AS place
  FROM events
  WHERE dataset = 'aws.cloudtrail' AND keytrail_actor_access_key_id LIKE 'A%') AS calls
WHERE place <= 3
ORDER BY keytrail_actor_access_key_id, place;
