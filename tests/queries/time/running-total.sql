-- How did the archive grow, and what is the mean of seven days with events?
SELECT day, events, sum(events) OVER (ORDER BY day) AS so_far,
  avg(events) OVER (ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) AS mean
FROM (SELECT day, count(*) AS events FROM events WHERE day <> 'undated' GROUP BY day) AS days
ORDER BY day;
