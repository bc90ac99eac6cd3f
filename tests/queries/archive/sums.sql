-- Events by dataset and outcome, with sums
SELECT dataset, event_outcome, count(*) AS events
FROM events
GROUP BY GROUPING SETS ((dataset, event_outcome), (dataset), ());
