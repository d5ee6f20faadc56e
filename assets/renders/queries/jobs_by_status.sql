SELECT rj.status, COUNT(*) AS jobs,
       COUNT(*) FILTER (WHERE rj.output_url IS NULL) AS without_url,
       COUNT(*) FILTER (WHERE saved.render_job_id IS NOT NULL) AS saved,
       MIN(rj.created_at) AS oldest_at
FROM render_jobs rj
LEFT JOIN (
  SELECT DISTINCT LOWER(TRIM(metadata->>'render_job_id')) AS render_job_id FROM user_assets
) saved ON saved.render_job_id = CAST(rj.id AS text)
GROUP BY rj.status
ORDER BY jobs DESC, rj.status
