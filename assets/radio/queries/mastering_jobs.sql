SELECT state, COUNT(*) AS jobs, MIN(created_at) AS oldest_at
FROM jobs
WHERE job_type = 'audio_finalize'
GROUP BY state
ORDER BY jobs DESC, state
