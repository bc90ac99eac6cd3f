-- Which keys were scheduled for deletion, and not taken back since?
SELECT planned.timestamp, planned.dataset, coalesce(planned.keytrail_key_id, array_to_string(planned.keytrail_resource_ids, ' ')) AS key_name,
  planned.user_name, planned.keytrail_key_owner
FROM events AS planned
WHERE planned.keytrail_action_class = 'schedule-deletion'
  AND planned.event_outcome = 'success'
  AND NOT EXISTS (
    SELECT 1
    FROM events AS taken_back
    WHERE taken_back.keytrail_action_class = 'cancel-deletion'
      AND taken_back.event_outcome = 'success'
      AND taken_back.dataset = planned.dataset
      AND taken_back.keytrail_key_id = planned.keytrail_key_id
      AND taken_back.timestamp >= planned.timestamp)
ORDER BY planned.timestamp, planned.keytrail_uid;
