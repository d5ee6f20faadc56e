SELECT TO_CHAR(created_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month,
       COUNT(*) AS jobs, COUNT(result) AS with_result,
       SUM(PG_COLUMN_SIZE(result)) AS result_bytes
FROM jobs
GROUP BY month
ORDER BY month
