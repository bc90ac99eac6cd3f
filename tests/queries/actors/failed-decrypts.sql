-- Who failed to decrypt, how often, and why?
SELECT dataset, account, actor, error, count(*) AS failures, count(DISTINCT key) AS keys, max(time) AS last_failure
FROM key_operations
WHERE class = 'decrypt' AND failed
GROUP BY ALL
ORDER BY failures DESC, dataset, account NULLS LAST, actor NULLS LAST, error NULLS LAST;
