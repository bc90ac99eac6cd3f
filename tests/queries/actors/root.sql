-- What did root identities do?
SELECT timestamp, dataset, coalesce(cloud_account_id, keytrail_vault_namespace) AS place, event_action, event_outcome, source_ip
FROM events
WHERE (dataset = 'aws.cloudtrail' AND keytrail_actor_type = 'Root' AND keytrail_actor_invoked_by IS NULL)
  OR (dataset = 'vault.audit' AND array_has(keytrail_actor_policies, 'root') AND keytrail_phase = 'response')
  OR (dataset = 'kubernetes.audit' AND array_has(keytrail_actor_policies, 'system:masters')
    AND keytrail_phase IS DISTINCT FROM 'RequestReceived')
ORDER BY timestamp NULLS LAST, keytrail_uid;
