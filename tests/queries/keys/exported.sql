-- When did key material or a secret leave the boundary?
SELECT timestamp, dataset, event_action, coalesce(keytrail_key_id, keytrail_vault_path, orchestrator_resource_name) AS what,
  coalesce(user_name, user_id) AS actor, event_outcome
FROM events
WHERE keytrail_action_class = 'export'
ORDER BY timestamp DESC NULLS LAST, keytrail_uid
LIMIT 25 OFFSET 5;
