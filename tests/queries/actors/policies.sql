-- Which policies and groups do callers of Vault and Kubernetes have, and how many callers has each?
SELECT dataset, policy, count(DISTINCT coalesce(user_name, user_id)) AS callers, count(*) AS records
FROM (SELECT dataset, user_name, user_id, unnest(keytrail_actor_policies) AS policy FROM events) AS attached
WHERE policy NOT ILIKE 'DEFAULT'
GROUP BY dataset, policy
ORDER BY dataset, records DESC, policy;
