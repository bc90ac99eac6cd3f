-- From which zones of the network are keys used?
SELECT coalesce(keytrail_source_zone, '(no zone)') AS zone, keytrail_action_class, count(*) AS operations
FROM events
WHERE keytrail_action_class IN ('decrypt', 'encrypt', 'sign', 'generate-data-key', 'unwrap')
GROUP BY CUBE (coalesce(keytrail_source_zone, '(no zone)'), keytrail_action_class)
ORDER BY zone NULLS LAST, keytrail_action_class NULLS LAST;
