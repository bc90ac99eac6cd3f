-- Which keys are used in more than one version?
SELECT dataset, keytrail_key_id, count(DISTINCT keytrail_key_version) AS versions,
  string_agg(DISTINCT keytrail_key_version, ', ' ORDER BY keytrail_key_version) AS which
FROM events
WHERE keytrail_key_version IS NOT NULL AND keytrail_key_id IS NOT NULL
GROUP BY dataset, keytrail_key_id
HAVING count(DISTINCT keytrail_key_version) > 1;
