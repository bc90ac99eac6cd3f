-- Who changed something in a session without a second factor?
SELECT cloud_account_id, user_name, count(*) AS changes, count(DISTINCT event_action) AS kinds
FROM events
WHERE dataset = 'aws.cloudtrail' AND NOT coalesce(keytrail_actor_mfa, false) AND keytrail_read_only = false
  AND user_name IS NOT NULL
GROUP BY cloud_account_id, user_name
HAVING count(*) >= 2
ORDER BY changes DESC, cloud_account_id, user_name;
