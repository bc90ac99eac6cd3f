-- Which days of this month are without any event?
WITH RECURSIVE days AS (
  SELECT DATE '2023-07-01' AS date
  UNION ALL
  SELECT CAST(date + INTERVAL '1 day' AS DATE) FROM days WHERE date < DATE '2023-07-31')
SELECT days.date
FROM days
WHERE NOT EXISTS (
  SELECT 1 FROM events
  WHERE events.day = CAST(days.date AS VARCHAR) AND events.day >= '2023-07-01' AND events.day <= '2023-07-31')
ORDER BY days.date;
