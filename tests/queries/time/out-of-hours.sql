-- Which privileged calls were made at night or at the weekend (UTC)?
SELECT date_part('dow', timestamp) AS day_of_week, date_part('hour', timestamp) AS hour, keytrail_action_class, count(*) AS calls
FROM events
WHERE keytrail_action_class IN ('schedule-deletion', 'policy-change', 'disable', 'grant', 'audit-control', 'export')
  AND (date_part('dow', timestamp) IN (0, 6) OR date_part('hour', timestamp) NOT BETWEEN 7 AND 18)
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;
