-- Which keys are there, as far as events tell?
SELECT *
FROM keys
ORDER BY dataset, key;
