SELECT j.page_slug, j.status, j.attempts, j.created_at, COUNT(a.id) AS records
FROM jobs j
LEFT JOIN assets a ON a.job_id = j.id
WHERE j.status = 'failed' OR j.attempts > 1
GROUP BY j.id, j.page_slug, j.status, j.attempts, j.created_at
ORDER BY j.created_at DESC, j.page_slug
