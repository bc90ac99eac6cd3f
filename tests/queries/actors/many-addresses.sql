-- Which actors came from more than one address within a day?
SELECT day, dataset, user_name, count(DISTINCT source_ip) AS addresses, min(source_ip) AS one, max(source_ip) AS another
FROM events
WHERE user_name IS NOT NULL
GROUP BY day, dataset, user_name
HAVING count(DISTINCT source_ip) > 1
ORDER BY addresses DESC, day, dataset, user_name;
