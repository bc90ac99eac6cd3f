-- Who acted on this day and never before it?
SELECT dataset, user_name FROM events WHERE day = '2023-07-10' AND user_name IS NOT NULL
EXCEPT
SELECT dataset, user_name FROM events WHERE day < '2023-07-10' AND user_name IS NOT NULL;
