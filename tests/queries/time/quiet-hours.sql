-- When was a source silent for longer than an hour, between two events of one day?
WITH neighbours AS (
  SELECT dataset, day, timestamp, lag(timestamp) OVER (PARTITION BY dataset, day ORDER BY timestamp) AS before
  FROM events
  WHERE timestamp IS NOT NULL)
SELECT dataset, before AS silent_from, timestamp AS silent_to,
  date_part('epoch', timestamp) - date_part('epoch', before) AS seconds
FROM neighbours
WHERE timestamp > before + INTERVAL '1 hour'
ORDER BY seconds DESC, dataset, silent_from;
