-- With which tools are the services called?
SELECT CASE
    WHEN user_agent_original ILIKE '%terraform%' THEN 'terraform'
    WHEN lower(user_agent_original) LIKE 'aws-cli/%' THEN 'aws-cli'
    WHEN user_agent_original ILIKE '%boto%' THEN 'boto'
    WHEN user_agent_original ILIKE 'kubectl/%' THEN 'kubectl'
    WHEN user_agent_original ~ '^[a-z0-9.-]+[.]amazonaws[.]com$' THEN 'a service of AWS'
    WHEN user_agent_original IS NULL THEN '(not said)'
    ELSE split_part(user_agent_original, '/', 1) END AS tool,
  count(*) AS calls, count(DISTINCT user_name) AS actors
FROM events
GROUP BY 1
ORDER BY calls DESC, tool;
