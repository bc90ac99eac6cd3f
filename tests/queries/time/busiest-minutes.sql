-- The five busiest minutes
SELECT date_trunc('minute', timestamp) AS minute, count(*) AS events
FROM events
WHERE timestamp IS NOT NULL
GROUP BY date_trunc('minute', timestamp)
ORDER BY events DESC, minute
LIMIT 5;
