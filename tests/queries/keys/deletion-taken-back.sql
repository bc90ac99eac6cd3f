-- How long was a key scheduled for deletion before somebody took it back, and who did each?
SELECT planned.dataset, planned.keytrail_key_id, planned.timestamp AS planned_at, taken_back.timestamp AS taken_back_at,
  planned.user_name AS planned_by, taken_back.user_name AS taken_back_by,
  date_part('epoch', taken_back.timestamp) - date_part('epoch', planned.timestamp) AS seconds
FROM events AS planned
JOIN events AS taken_back
  ON taken_back.dataset = planned.dataset AND taken_back.keytrail_key_id = planned.keytrail_key_id
WHERE planned.keytrail_action_class = 'schedule-deletion'
  AND taken_back.keytrail_action_class = 'cancel-deletion'
  AND taken_back.timestamp >= planned.timestamp
QUALIFY row_number() OVER (PARTITION BY planned.keytrail_uid ORDER BY taken_back.timestamp, taken_back.keytrail_uid) = 1;
