-- Who both administers keys and uses them?
SELECT dataset, user_name FROM events
WHERE keytrail_action_class IN ('policy-change', 'grant', 'create', 'schedule-deletion') AND user_name IS NOT NULL
INTERSECT
SELECT dataset, user_name FROM events
WHERE keytrail_action_class IN ('decrypt', 'encrypt', 'sign', 'generate-data-key') AND user_name IS NOT NULL;
