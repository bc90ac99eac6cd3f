-- What is done with critical keys, whose are they, and what do they protect?
SELECT keytrail_key_owner, keytrail_key_purpose, keytrail_key_declared_id, keytrail_action_class,
  count(*) AS operations, count(*) FILTER (WHERE event_outcome = 'failure') AS failures
FROM events
WHERE keytrail_key_tier = 'critical'
GROUP BY ALL
ORDER BY keytrail_key_owner, keytrail_key_declared_id, keytrail_action_class NULLS LAST;
