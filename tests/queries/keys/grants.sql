-- Who was granted what on which key, and was the grant taken back?
SELECT made.keytrail_key_id, made.keytrail_grant_principal, array_to_string(made.keytrail_grant_operations, ', ') AS operations,
  made.timestamp AS made_at, ended.timestamp AS ended_at, ended.event_action AS ended_by
FROM events AS made
LEFT JOIN events AS ended
  ON ended.keytrail_grant_id = made.keytrail_grant_id AND ended.event_action IN ('RetireGrant', 'RevokeGrant')
WHERE made.event_action = 'CreateGrant' AND made.event_outcome = 'success';
