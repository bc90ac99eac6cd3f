-- Which keys were made and never used?
SELECT dataset, keytrail_key_id
FROM events
WHERE keytrail_action_class IN ('create', 'import') AND event_outcome = 'success' AND keytrail_key_id IS NOT NULL
EXCEPT
SELECT dataset, keytrail_key_id
FROM events
WHERE keytrail_action_class IN ('encrypt', 'decrypt', 'sign', 'verify', 'mac', 'generate-data-key', 'wrap', 'unwrap');
