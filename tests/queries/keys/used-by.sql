-- Who used this key, how often, and when last?
SELECT dataset, actor, count(*) AS operations, count(*) FILTER (WHERE failed) AS failures, min(time) AS first_use, max(time) AS last_use
FROM key_operations
WHERE key = '1234abcd-12ab-34cd-56ef-1234567890ab'
GROUP BY ALL
ORDER BY operations DESC, dataset, actor NULLS LAST;
