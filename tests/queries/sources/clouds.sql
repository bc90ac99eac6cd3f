-- The same question to three clouds: who did what to keys?
SELECT 'aws' AS cloud, cloud_account_id AS place, keytrail_action_class AS class, count(*) AS operations
FROM events WHERE cloud_provider = 'aws' AND keytrail_action_class IS NOT NULL GROUP BY 2, 3
UNION ALL
SELECT 'gcp', cloud_project_id, keytrail_action_class, count(*)
FROM events WHERE cloud_provider = 'gcp' AND keytrail_action_class IS NOT NULL GROUP BY 2, 3
UNION ALL
SELECT 'azure', cloud_account_id, keytrail_action_class, count(*)
FROM events WHERE cloud_provider = 'azure' AND keytrail_action_class IS NOT NULL GROUP BY 2, 3;
