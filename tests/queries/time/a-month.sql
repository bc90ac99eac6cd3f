-- Which weeks of this month had how many events? (`undated` sorts behind every day: bound both sides)
SELECT CAST(date_trunc('week', timestamp) AS DATE) AS week, count(*) AS events
FROM events
WHERE day >= '2023-07-01' AND day < '2023-08-01'
GROUP BY 1
ORDER BY 1;
