-- A few events of each action class, to see what one looks like
SELECT keytrail_action_class, dataset, event_action, keytrail_uid
FROM (
  SELECT keytrail_action_class, dataset, event_action, keytrail_uid,
    ntile(40) OVER (PARTITION BY keytrail_action_class ORDER BY keytrail_uid) AS slice,
    first_value(keytrail_uid) OVER (PARTITION BY keytrail_action_class ORDER BY keytrail_uid) AS head
  FROM events
  WHERE keytrail_action_class IS NOT NULL) AS sliced
WHERE slice = 1 AND keytrail_uid >= head
ORDER BY keytrail_action_class, keytrail_uid;
