-- Who runs a role of administrators, and how much does each session change?
SELECT keytrail_actor_issuer_arn, keytrail_actor_session, min(timestamp) AS session_start, max(timestamp) AS session_end,
  count(*) AS calls, count(*) FILTER (WHERE NOT keytrail_read_only) AS changes
FROM events
WHERE keytrail_actor_session IS NOT NULL AND keytrail_actor_issuer_arn ILIKE '%:role/%admin%'
GROUP BY keytrail_actor_issuer_arn, keytrail_actor_session
ORDER BY session_start, keytrail_actor_issuer_arn, keytrail_actor_session;
