-- Which ECS categories and types do events have?
SELECT category, type, count(*) AS events
FROM (SELECT category, unnest(event_type) AS type FROM (
  SELECT unnest(event_category) AS category, event_type FROM events) AS of_category) AS of_type
GROUP BY category, type
ORDER BY events DESC, category, type;
