-- At which hours of the day do which sources speak? Hours without events are shown, too
WITH hours AS (SELECT n AS hour FROM generate_series(0, 23) AS series(n))
SELECT hours.hour, count(events.keytrail_uid) AS events,
  count(events.keytrail_uid) FILTER (WHERE events.dataset = 'vault.audit') AS of_vault
FROM hours
LEFT JOIN events ON date_part('hour', events.timestamp) = hours.hour
GROUP BY hours.hour
ORDER BY hours.hour;
