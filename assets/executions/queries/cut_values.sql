SELECT table_name || '.' || column_name AS value, TO_CHAR(cut_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month, COUNT(*) AS cut
FROM overlong_values
GROUP BY value, month
ORDER BY value, month
