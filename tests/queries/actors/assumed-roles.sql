-- Which roles were assumed, by whom, and how many calls were made in their sessions?
WITH assumed AS (
  SELECT unnest(keytrail_resource_ids) AS role_arn, user_name, keytrail_uid
  FROM events
  WHERE dataset = 'aws.cloudtrail' AND event_action LIKE 'AssumeRole%'),
made AS (
  SELECT keytrail_actor_issuer_arn AS role_arn, count(*) AS calls
  FROM events
  WHERE dataset = 'aws.cloudtrail' AND keytrail_actor_issuer_arn IS NOT NULL
  GROUP BY keytrail_actor_issuer_arn)
SELECT assumed.role_arn, assumed.user_name AS assumed_by, count(DISTINCT assumed.keytrail_uid) AS times, made.calls
FROM assumed
LEFT JOIN made ON made.role_arn = assumed.role_arn
WHERE assumed.role_arn LIKE 'arn:%:role/%'
GROUP BY assumed.role_arn, assumed.user_name, made.calls
ORDER BY times DESC, assumed.role_arn, assumed_by NULLS LAST;
