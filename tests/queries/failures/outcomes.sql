-- How do operations end in each dataset?
SELECT dataset,
  sum(CASE WHEN event_outcome = 'success' THEN 1 ELSE 0 END) AS succeeded,
  sum(CASE WHEN event_outcome = 'failure' THEN 1 ELSE 0 END) AS failed,
  sum(CASE WHEN event_outcome = 'unknown' THEN 1 ELSE 0 END) AS left_unknown,
  count(*) - count(event_outcome) AS without_outcome
FROM events
GROUP BY dataset
ORDER BY dataset;
