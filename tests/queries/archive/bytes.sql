-- What came, byte for byte, of this event? (in hexadecimal)
-- with --raw
SELECT keytrail_uid, event_hash, event_original
FROM events
WHERE event_id = '3c4226b0-1e81-48a8-a333-7fa5f3cbd118'
ORDER BY keytrail_uid;
