-- How did a month compare with the one before it that had events?
WITH months AS (
  SELECT dataset, CAST(date_trunc('month', timestamp) AS DATE) AS month, count(*) AS events
  FROM events
  WHERE day <> 'undated' AND keytrail_action_class IS NOT NULL
  GROUP BY 1, 2)
SELECT dataset, month, events, events - lag(events) OVER (PARTITION BY dataset ORDER BY month) AS more
FROM months
ORDER BY dataset, month;
