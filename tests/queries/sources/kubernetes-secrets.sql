-- Who read or changed secrets of Kubernetes?
SELECT orchestrator_namespace, orchestrator_resource_name, event_action, user_name, count(*) AS records
FROM events
WHERE dataset = 'kubernetes.audit' AND orchestrator_resource_type = 'secrets' AND keytrail_phase <> 'RequestReceived'
GROUP BY ALL;
