-- Which key operations were announced and have no end that is archived? None of a whole chain should be
-- finds nothing
SELECT keytrail_operation_id
FROM events
WHERE dataset = 'keytrail.key_operation' AND keytrail_phase = 'intent'
  AND keytrail_operation_id NOT IN (
    SELECT keytrail_operation_id
    FROM events
    WHERE dataset = 'keytrail.key_operation' AND keytrail_phase IN ('outcome', 'deny') AND keytrail_operation_id IS NOT NULL);
