-- What do records name, and which is the first of it?
SELECT keytrail_resource_ids[1] AS first_named, array_length(keytrail_resource_ids) AS named, count(*) AS events
FROM events
WHERE array_length(keytrail_resource_ids) > 1
GROUP BY 1, 2
ORDER BY events DESC, first_named, named;
