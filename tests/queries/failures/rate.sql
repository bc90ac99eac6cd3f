-- Whose calls fail more often than one in ten, of those with at least five calls?
SELECT dataset, user_name, count(*) AS calls, count(*) FILTER (WHERE event_outcome = 'failure') AS failures,
  CAST(count(*) FILTER (WHERE event_outcome = 'failure') AS DOUBLE) / count(*) AS rate
FROM events
WHERE user_name IS NOT NULL
GROUP BY dataset, user_name
HAVING count(*) >= 5 AND CAST(count(*) FILTER (WHERE event_outcome = 'failure') AS DOUBLE) / count(*) > 0.1
ORDER BY rate DESC, dataset, user_name;
