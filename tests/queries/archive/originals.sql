-- How many events of each dataset have their original bytes, how many had them withheld, and are any the same bytes?
-- with --raw
SELECT dataset, count(event_original) AS kept, count(*) FILTER (WHERE event_original IS NULL) AS withheld,
  count(DISTINCT event_original) AS distinct_originals
FROM events
GROUP BY dataset
ORDER BY dataset;
