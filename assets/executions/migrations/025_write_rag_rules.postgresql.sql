-- Keeps the tables of normalize_rag_rules as the JSON of execution_rag_context is, while old code writes it: each
-- context that is inserted without its totals, or whose JSON changes, is split again in the same transaction.
-- applied when: SELECT COUNT(*) = 2 FROM pg_trigger WHERE tgrelid = to_regclass('public.execution_rag_context')
--   AND tgname IN ('split_on_insert', 'split_on_update') AND tgenabled <> 'D'
-- refuse when: SELECT to_regprocedure('public.split_rag_context(text)') IS NULL
--   -- normalize_rag_rules comes first. Nothing was changed; apply it.
-- option dual_write: what old code writes as JSON is written to the new tables too.
-- waits for: dual_write
SET LOCAL lock_timeout = '2s';
-- Runs as its owner: the application's role needs no right on the new tables yet.
CREATE OR REPLACE FUNCTION public.split_this_rag_context() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM public.split_rag_context(NEW.id);
  RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION public.split_this_rag_context() FROM PUBLIC;
CREATE OR REPLACE TRIGGER split_on_insert AFTER INSERT ON public.execution_rag_context
  FOR EACH ROW WHEN (NEW.total_rules_retrieved IS NULL) EXECUTE FUNCTION public.split_this_rag_context();
CREATE OR REPLACE TRIGGER split_on_update AFTER UPDATE OF payers, modifiers, rules ON public.execution_rag_context
  FOR EACH ROW WHEN ((OLD.payers, OLD.modifiers, OLD.rules) IS DISTINCT FROM (NEW.payers, NEW.modifiers, NEW.rules))
  EXECUTE FUNCTION public.split_this_rag_context();
