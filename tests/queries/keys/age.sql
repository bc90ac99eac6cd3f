-- How old is the newest version of each key at its last use, where the archive saw it made?
SELECT dataset, keytrail_key_id, made_at, used_at, floor((date_part('epoch', used_at) - date_part('epoch', made_at)) / 86400) AS days
FROM (
  SELECT dataset, keytrail_key_id,
    max(timestamp) FILTER (WHERE keytrail_action_class IN ('create', 'import', 'rotate') AND event_outcome = 'success') AS made_at,
    max(timestamp) FILTER (WHERE keytrail_action_class IN ('encrypt', 'sign', 'generate-data-key', 'wrap')) AS used_at
  FROM events
  WHERE keytrail_key_id IS NOT NULL
  GROUP BY dataset, keytrail_key_id) AS aged
WHERE used_at > made_at
ORDER BY days DESC, dataset, keytrail_key_id;
