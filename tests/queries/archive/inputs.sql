-- From which files did the events of this day come?
SELECT regexp_replace(split_part(keytrail_input, '@', 1), '^.*/', '') AS file, count(*) AS events
FROM events
WHERE day = '2023-07-10'
GROUP BY 1
ORDER BY events DESC, file;
