-- Who changed what in Kubernetes, leaving out its own controllers?
SELECT user_name, event_action, orchestrator_resource_type, count(*) AS changes
FROM events
WHERE dataset = 'kubernetes.audit' AND event_action IN ('create', 'update', 'patch', 'delete')
  AND user_name NOT LIKE 'system:%'
GROUP BY user_name, event_action, orchestrator_resource_type
ORDER BY changes DESC, user_name, event_action, orchestrator_resource_type NULLS LAST;
