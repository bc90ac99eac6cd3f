-- What did policies refuse, and which policies?
SELECT policy, user_name, event_action, count(*) AS refusals
FROM (
  SELECT unnest(keytrail_policy_ids) AS policy, user_name, event_action
  FROM events
  WHERE keytrail_policy_decision = 'deny') AS refused
GROUP BY policy, user_name, event_action
ORDER BY refusals DESC, policy, user_name NULLS LAST, event_action;
