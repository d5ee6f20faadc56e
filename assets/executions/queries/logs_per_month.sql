SELECT COALESCE(j.organization_id, '__unknown__') AS organization,
       TO_CHAR(l.timestamp AT TIME ZONE 'UTC', 'YYYY-MM') AS month,
       COUNT(*) AS log_rows, COUNT(DISTINCT l.job_id) AS jobs
FROM execution_log_partitioned l
LEFT JOIN jobs j ON j.id = l.job_id
GROUP BY organization, month
ORDER BY organization, month
