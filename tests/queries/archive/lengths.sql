-- How long are the longest texts and lists of each dataset?
SELECT dataset, max(length(user_agent_original)) AS user_agent, max(length(error_message)) AS error_message,
  max(length(keytrail_encryption_context)) AS encryption_context, max(array_length(keytrail_resource_ids)) AS resources
FROM events
GROUP BY dataset
ORDER BY dataset;
