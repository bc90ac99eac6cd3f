-- Which failures give no reason at all?
SELECT dataset, event_action, count(*) AS events
FROM events
WHERE event_outcome = 'failure' AND error_code IS NULL AND error_message IS NULL AND event_reason IS NULL
GROUP BY dataset, event_action
ORDER BY events DESC, dataset, event_action NULLS LAST;
