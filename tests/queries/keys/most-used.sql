-- The ten keys that are used most, and their share of all use
SELECT dataset, key, count(*) AS operations, round(100.0 * count(*) / sum(count(*)) OVER (), 2) AS percent,
  rank() OVER (ORDER BY count(*) DESC) AS place
FROM key_operations
WHERE key IS NOT NULL
GROUP BY dataset, key
ORDER BY operations DESC, dataset, key
LIMIT 10;
