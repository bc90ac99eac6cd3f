-- Which keys were not used in the thirty days before the newest event of their dataset?
WITH newest AS (SELECT dataset, max(timestamp) AS newest_event FROM events GROUP BY dataset),
uses AS (
  SELECT dataset, keytrail_key_id, max(timestamp) AS last_use
  FROM events
  WHERE keytrail_key_id IS NOT NULL AND keytrail_action_class IS NOT NULL
  GROUP BY dataset, keytrail_key_id)
SELECT uses.dataset, uses.keytrail_key_id, uses.last_use
FROM uses JOIN newest ON newest.dataset = uses.dataset
WHERE uses.last_use < newest.newest_event - INTERVAL '30 days'
ORDER BY uses.last_use, uses.dataset, uses.keytrail_key_id;
