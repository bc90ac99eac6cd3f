-- How late did events come: from their own time to when they were read?
SELECT dataset, count(*) AS events,
  count(*) FILTER (WHERE event_ingested > timestamp + INTERVAL '1 day') AS later_than_a_day,
  min(CAST(event_ingested AS DATE) - CAST(timestamp AS DATE)) > 365 AS all_later_than_a_year
FROM events
WHERE timestamp IS NOT NULL
GROUP BY dataset
ORDER BY dataset;
