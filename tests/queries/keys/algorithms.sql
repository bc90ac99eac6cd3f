-- Which algorithms are in use, by how many keys, and for what?
SELECT coalesce(keytrail_key_algorithm, '(not said)') AS algorithm, keytrail_action_class,
  count(DISTINCT keytrail_key_id) AS keys, count(*) AS operations
FROM events
WHERE keytrail_action_class IN ('create', 'encrypt', 'decrypt', 'sign', 'generate-data-key')
GROUP BY 1, 2
ORDER BY 1, 2;
