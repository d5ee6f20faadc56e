SELECT TO_CHAR(captured_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month,
       COUNT(*) AS screenshots, COUNT(DISTINCT job_id) AS jobs
FROM execution_screenshots
GROUP BY month
ORDER BY month
