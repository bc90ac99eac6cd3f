-- With which keys is data decrypted that nobody encrypted while the archive looked on?
SELECT dataset, key, decryptions, actors
FROM keys
WHERE decryptions > 0 AND encryptions = 0
ORDER BY decryptions DESC, dataset, key;
