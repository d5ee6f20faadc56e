-- Drops the nine copied columns of execution_metadata, which execution_metadata_full looks up. Refused while one of
-- their values differs from its source, as after a rename: then the copy is the only record of the old name.
-- The table is locked while this is looked at once more, so that no copy is written meanwhile.
-- applied when: SELECT to_regclass('public.execution_metadata_full') IS NOT NULL AND NOT EXISTS (
--   SELECT FROM pg_attribute WHERE attrelid = to_regclass('public.execution_metadata') AND NOT attisdropped AND attname IN
--   ('workflow_name', 'client_name', 'client_npi', 'insuree_name', 'insuree_id', 'primary_account_name',
--   'all_account_ids', 'all_account_names', 'account_count'))
-- refuse when: SELECT to_regclass('public.execution_metadata_full') IS NULL
--   -- slim_execution_metadata comes first, and readers that use its view. Nothing was changed.
-- refuse rows: SELECT copy.key AS value, m.id FROM public.execution_metadata m
--   JOIN public.execution_metadata_full f ON f.id = m.id CROSS JOIN LATERAL jsonb_each(to_jsonb(m)) AS copy
--   WHERE copy.value <> 'null' AND copy.value IS DISTINCT FROM to_jsonb(f) -> copy.key
--   -- these copies differ from what they were copied from. Nothing was changed; keep what is history elsewhere, and set the copy to NULL.
-- option drop_columns: removes the columns for good; the view goes on, and code that still writes them fails.
-- waits for: drop_columns
SET LOCAL lock_timeout = '2s';
LOCK TABLE public.execution_metadata IN ACCESS EXCLUSIVE MODE;
-- The values come from these: nobody changes them before the copies are gone.
LOCK TABLE public.jobs, public.workflows, public.clients, public.claim_submissions, public.credentials IN SHARE MODE;
DO $$
BEGIN
  IF EXISTS (
    SELECT FROM public.execution_metadata m
    JOIN public.execution_metadata_full f ON f.id = m.id CROSS JOIN LATERAL jsonb_each(to_jsonb(m)) AS copy
    WHERE copy.value <> 'null' AND copy.value IS DISTINCT FROM to_jsonb(f) -> copy.key) THEN
    RAISE EXCEPTION 'a copy was written meanwhile that differs from its source';
  END IF;
END
$$;
ALTER TABLE public.execution_metadata
  DROP COLUMN workflow_name, DROP COLUMN client_name, DROP COLUMN client_npi, DROP COLUMN insuree_name,
  DROP COLUMN insuree_id, DROP COLUMN primary_account_name, DROP COLUMN all_account_ids,
  DROP COLUMN all_account_names, DROP COLUMN account_count;
