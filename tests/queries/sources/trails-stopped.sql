-- Was recording itself touched?
SELECT timestamp, dataset, event_action, event_outcome, coalesce(user_name, keytrail_actor_arn) AS actor, array_to_string(keytrail_resource_ids, ' ') AS what
FROM events
WHERE keytrail_action_class = 'audit-control'
ORDER BY timestamp NULLS LAST, keytrail_uid;
