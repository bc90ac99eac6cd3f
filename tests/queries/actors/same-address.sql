-- Which two actors came from the same address on the same day?
WITH seen AS (
  SELECT DISTINCT day, source_ip, user_name
  FROM events
  WHERE source_ip IS NOT NULL AND user_name IS NOT NULL AND day BETWEEN '2006-01-01' AND '2025-12-31')
SELECT a.day, a.source_ip, a.user_name AS one, b.user_name AS other
FROM seen AS a
JOIN seen AS b ON a.day = b.day AND a.source_ip = b.source_ip AND a.user_name < b.user_name
ORDER BY a.day, a.source_ip, one, other;
