-- Which services called on somebody's behalf, and for whom?
SELECT keytrail_actor_invoked_by, keytrail_actor_type, event_provider, count(*) AS calls
FROM events
WHERE keytrail_actor_invoked_by IS NOT NULL
GROUP BY keytrail_actor_invoked_by, keytrail_actor_type, event_provider;
