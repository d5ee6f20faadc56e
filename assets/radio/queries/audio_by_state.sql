SELECT validation_status, SPLIT_PART(storage_path, '/', 1) AS stored_in, COUNT(*) AS assets,
       SUM(duration_sec) AS duration_sec
FROM assets
GROUP BY validation_status, stored_in
ORDER BY assets DESC, validation_status, stored_in
