-- Requests and responses of Vault put together: what was asked, and how did it end?
SELECT request.event_action, request.keytrail_vault_path, request.user_name, response.event_outcome,
  count(*) AS calls
FROM events AS request
JOIN events AS response
  ON response.keytrail_operation_id = request.keytrail_operation_id AND response.dataset = request.dataset
WHERE request.dataset = 'vault.audit' AND request.keytrail_phase = 'request' AND response.keytrail_phase = 'response'
GROUP BY ALL
ORDER BY calls DESC, request.event_action NULLS LAST, request.keytrail_vault_path NULLS LAST, request.user_name NULLS LAST,
  response.event_outcome NULLS LAST;
