-- What happened on this day, hour by hour? (reads that day's objects alone)
SELECT date_trunc('hour', timestamp) AS hour, dataset, count(*) AS events, count(DISTINCT user_name) AS actors
FROM events
WHERE day = '2023-07-10'
GROUP BY 1, 2
ORDER BY 1, 2;
