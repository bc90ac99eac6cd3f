-- Which requests of Vault have no response?
SELECT timestamp, keytrail_operation_id, event_action, keytrail_vault_path
FROM events AS request
WHERE dataset = 'vault.audit' AND keytrail_phase = 'request'
  AND NOT EXISTS (
    SELECT 1
    FROM events AS response
    WHERE response.dataset = 'vault.audit' AND response.keytrail_phase = 'response'
      AND response.keytrail_operation_id = request.keytrail_operation_id)
ORDER BY timestamp, keytrail_uid;
