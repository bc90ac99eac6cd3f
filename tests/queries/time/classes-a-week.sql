-- Key operations by class and ISO week (from Monday, UTC)
SELECT CAST(date_trunc('week', time) AS DATE) AS week, class, count(*) AS operations
FROM key_operations
WHERE day >= '2021-01-01' AND day <= '2026-12-31'
GROUP BY 1, 2
ORDER BY week, class;
