-- Which errors are there, how often, and what does one of them say?
SELECT dataset, error_code, count(*) AS events, min(left(error_message, 80)) AS one
FROM events
WHERE error_code IS NOT NULL
GROUP BY dataset, error_code
ORDER BY events DESC, dataset, error_code;
