-- Which keys does the inventory not know, of those that are used while tables are loaded?
SELECT dataset, keytrail_key_id, count(*) AS operations, max(timestamp) AS last_use
FROM events
WHERE keytrail_tables IS NOT NULL AND keytrail_key_declared_id IS NULL AND keytrail_key_id IS NOT NULL
GROUP BY dataset, keytrail_key_id
ORDER BY operations DESC, dataset, keytrail_key_id;
