-- Which numbers are missing in the audit log of an HSM?
SELECT keytrail_hsm_id, keytrail_hsm_reboot_counter, event_sequence AS last_before, next_one AS first_behind,
  next_one - event_sequence - 1 AS missing
FROM (
  SELECT keytrail_hsm_id, keytrail_hsm_reboot_counter, event_sequence,
    lead(event_sequence) OVER (PARTITION BY keytrail_hsm_id, keytrail_hsm_reboot_counter ORDER BY event_sequence) AS next_one
  FROM events
  WHERE dataset = 'aws.cloudhsm' AND event_sequence IS NOT NULL) AS numbered
WHERE next_one - event_sequence > 1
ORDER BY keytrail_hsm_id NULLS FIRST, keytrail_hsm_reboot_counter NULLS FIRST, last_before;
