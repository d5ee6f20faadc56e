-- Makes the view execution_metadata_full: the columns of execution_metadata, with names looked up where they belong.
-- Readers go over to it, and writers may leave the copies out. Also the dashboard's index. Nothing is removed here.
-- applied when: SELECT to_regclass('public.execution_metadata_full') IS NOT NULL
--   AND to_regclass('public.idx_execution_metadata_dashboard') IS NOT NULL
-- refuse when: SELECT to_regclass('public.execution_metadata_full') IS NULL AND (SELECT COUNT(*) FROM pg_attribute
--   WHERE attrelid = to_regclass('public.execution_metadata') AND NOT attisdropped AND attname IN ('workflow_name',
--   'client_name', 'client_npi', 'insuree_name', 'insuree_id', 'primary_account_name', 'all_account_ids',
--   'all_account_names', 'account_count')) <> 9
--   -- public.execution_metadata has not the nine columns that the view stands for. Nothing was changed.
SET LOCAL lock_timeout = '2s';
ALTER TABLE public.execution_metadata
  ALTER workflow_name DROP NOT NULL, ALTER all_account_ids DROP NOT NULL, ALTER all_account_names DROP NOT NULL,
  ALTER account_count DROP NOT NULL;

CREATE VIEW public.execution_metadata_full AS
SELECT m.id, m.job_id, m.organization_id, m.workflow_id, w.name AS workflow_name, m.client_id, c.name AS client_name,
       c.npi AS client_npi, m.claim_submission_id, s.patient_name AS insuree_name, s.patient_id AS insuree_id,
       m.primary_account_id, p.account_name AS primary_account_name, j.credential_ids AS all_account_ids,
       ARRAY(SELECT a.account_name FROM unnest(j.credential_ids) WITH ORDINALITY AS u (id, n)
             LEFT JOIN public.credentials a ON a.id = u.id ORDER BY n) AS all_account_names,
       cardinality(j.credential_ids) AS account_count,
       m.status, m.progress_percent, m.total_steps, m.completed_steps, m.created_at, m.duration_ms
FROM public.execution_metadata m
LEFT JOIN public.jobs j ON j.id = m.job_id
LEFT JOIN public.workflows w ON w.id = m.workflow_id
LEFT JOIN public.clients c ON c.id = m.client_id
LEFT JOIN public.claim_submissions s ON s.id = m.claim_submission_id
LEFT JOIN public.credentials p ON p.id = m.primary_account_id;
DO $$
BEGIN
  IF current_setting('server_version_num')::int >= 150000 THEN  -- shows what its reader may see, not its owner
    EXECUTE 'ALTER VIEW public.execution_metadata_full SET (security_invoker = true)';
  END IF;
END
$$;
-- next transaction
SET LOCAL lock_timeout = '2s';
CREATE INDEX IF NOT EXISTS idx_execution_metadata_dashboard
  ON public.execution_metadata (organization_id, status, created_at DESC);
