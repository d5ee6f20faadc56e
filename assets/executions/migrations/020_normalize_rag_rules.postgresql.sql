-- Splits the JSON of execution_rag_context into the tables execution_rag_payers, execution_rag_modifiers and
-- execution_rag_rules, and its totals into columns, 1,000 contexts a transaction. What does not fit goes to table
-- rag_rejects with the reason. The JSON stays: nothing is removed here.
-- applied when: SELECT COUNT(*) = 6 FROM (VALUES ('execution_rag_payers'), ('execution_rag_modifiers'),
--   ('execution_rag_rules'), ('rag_rejects'), ('rag_rule_usage'), ('idx_rag_context_unsplit')) AS wanted (name)
--   WHERE to_regclass('public.' || name) IS NOT NULL
-- applied when: SELECT NOT EXISTS (SELECT FROM public.execution_rag_context WHERE total_rules_retrieved IS NULL)
-- refuse when: SELECT COUNT(*) <> 4 FROM pg_attribute WHERE attrelid = to_regclass('public.execution_rag_context')
--   AND NOT attisdropped AND (attname, atttypid) IN (('id', 'text'::regtype), ('payers', 'jsonb'::regtype),
--   ('modifiers', 'jsonb'::regtype), ('rules', 'jsonb'::regtype))
--   -- public.execution_rag_context has not the columns payers, modifiers and rules as JSONB. Nothing was changed.
-- refuse when: SELECT EXISTS (SELECT FROM pg_attribute WHERE NOT attisdropped
--   AND attrelid = to_regclass('public.execution_rag_context')
--   AND (attname IN ('total_rules_retrieved', 'total_rules_used') AND atttypid <> 'int4'::regtype
--     OR attname = 'average_retrieval_score' AND atttypid <> 'numeric'::regtype))
--   -- public.execution_rag_context has a total of another type. Nothing was changed; rename that column first.
SET LOCAL lock_timeout = '2s';
ALTER TABLE public.execution_rag_context
  ADD COLUMN IF NOT EXISTS total_rules_retrieved INT,  -- NULL: not split yet
  ADD COLUMN IF NOT EXISTS total_rules_used INT DEFAULT 0,
  ADD COLUMN IF NOT EXISTS average_retrieval_score NUMERIC(5,4),
  ALTER payers SET DEFAULT '[]', ALTER modifiers SET DEFAULT '[]', ALTER rules SET DEFAULT '[]';

CREATE TABLE IF NOT EXISTS public.execution_rag_payers (
  id TEXT PRIMARY KEY, context_id TEXT NOT NULL REFERENCES public.execution_rag_context (id) ON DELETE CASCADE,
  payer_name VARCHAR(200) NOT NULL, payer_id VARCHAR(100) NOT NULL, scenario VARCHAR(500) NOT NULL);
CREATE TABLE IF NOT EXISTS public.execution_rag_modifiers (
  id TEXT PRIMARY KEY, context_id TEXT NOT NULL REFERENCES public.execution_rag_context (id) ON DELETE CASCADE,
  code VARCHAR(20) NOT NULL, scenario VARCHAR(500) NOT NULL);
CREATE TABLE IF NOT EXISTS public.execution_rag_rules (
  id TEXT PRIMARY KEY, context_id TEXT NOT NULL REFERENCES public.execution_rag_context (id) ON DELETE CASCADE,
  rule_id VARCHAR(100), rule_type VARCHAR(50) NOT NULL, condition VARCHAR(1000) NOT NULL, action VARCHAR(1000) NOT NULL,
  was_used BOOLEAN NOT NULL DEFAULT false, used_at_step_index INT, used_at_timestamp TIMESTAMPTZ,
  usage_reason VARCHAR(500), retrieval_score NUMERIC(5,4));
CREATE TABLE IF NOT EXISTS public.rag_rejects (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  context_id TEXT NOT NULL REFERENCES public.execution_rag_context (id) ON DELETE CASCADE,
  column_name TEXT NOT NULL, position INT, value JSONB NOT NULL, reason TEXT NOT NULL,  -- no position: the whole column
  rejected_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp());
CREATE INDEX IF NOT EXISTS idx_rag_payers_context ON public.execution_rag_payers (context_id);
CREATE INDEX IF NOT EXISTS idx_rag_modifiers_context ON public.execution_rag_modifiers (context_id);
CREATE INDEX IF NOT EXISTS idx_rag_rules_context_used ON public.execution_rag_rules (context_id, was_used);
CREATE INDEX IF NOT EXISTS idx_rag_rules_rule ON public.execution_rag_rules (rule_id) WHERE rule_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_rag_rejects_context ON public.rag_rejects (context_id);

-- Where a rule was retrieved, and whether it was used.
CREATE OR REPLACE VIEW public.rag_rule_usage AS
SELECT r.rule_id, r.rule_type, r.condition, r.action, r.was_used, r.used_at_step_index, r.used_at_timestamp,
       r.usage_reason, r.retrieval_score, c.job_id, c.organization_id, c.retrieved_at
FROM public.execution_rag_rules r JOIN public.execution_rag_context c ON c.id = r.context_id;
DO $$
BEGIN
  IF current_setting('server_version_num')::int >= 150000 THEN  -- shows what its reader may see, not its owner
    EXECUTE 'ALTER VIEW public.rag_rule_usage SET (security_invoker = true)';
  END IF;
END
$$;

-- The instant that a text names, NULL where it names none without doubt: an offset is needed.
CREATE OR REPLACE FUNCTION public.rag_instant(said text) RETURNS timestamptz LANGUAGE plpgsql STABLE STRICT
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN CASE WHEN said ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)$' THEN said::timestamptz END;
EXCEPTION WHEN data_exception THEN RETURN NULL;
END
$$;

-- Why an element does not fit columns of text, NULL where it does. Both: name -> most characters.
CREATE OR REPLACE FUNCTION public.rag_faults(element jsonb, needed jsonb, optional jsonb) RETURNS text LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE WHEN jsonb_typeof(element) <> 'object' THEN 'is no object' ELSE (
    SELECT string_agg(name || CASE
             WHEN type = 'null' THEN ' is missing' WHEN type <> 'string' THEN ' is no text'
             ELSE ' has ' || char_length(value) || ' characters, ' || most || ' fit' END, '; ' ORDER BY name)
    FROM (SELECT key AS name, value::int AS most, true AS must FROM jsonb_each_text(needed)
          UNION ALL SELECT key, value::int, false FROM jsonb_each_text(optional)) AS wanted,
    LATERAL (SELECT coalesce(jsonb_typeof(element -> name), 'null') AS type, element ->> name AS value) AS found
    WHERE CASE type WHEN 'null' THEN must WHEN 'string' THEN char_length(value) > most ELSE true END) END
$$;

-- Writes the rows of one context from its JSON, and those that were written so before anew. Other rows stay.
CREATE OR REPLACE FUNCTION public.split_rag_context(wanted text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  here public.execution_rag_context;
BEGIN
  SELECT * INTO here FROM public.execution_rag_context WHERE id = wanted FOR UPDATE;
  DELETE FROM public.execution_rag_payers WHERE context_id = wanted AND starts_with(id, wanted || '/payer/');
  DELETE FROM public.execution_rag_modifiers WHERE context_id = wanted AND starts_with(id, wanted || '/modifier/');
  DELETE FROM public.execution_rag_rules WHERE context_id = wanted AND starts_with(id, wanted || '/rule/');
  DELETE FROM public.rag_rejects WHERE context_id = wanted;
  WITH columns (name, value) AS (
    VALUES ('payers', here.payers), ('modifiers', here.modifiers), ('rules', here.rules)),
  elements AS MATERIALIZED (
    SELECT name, position, e.value AS it, CASE name
        WHEN 'payers' THEN public.rag_faults(e.value, '{"payerName": 200, "payerId": 100, "scenario": 500}', '{}')
        WHEN 'modifiers' THEN public.rag_faults(e.value, '{"code": 20, "scenario": 500}', '{}')
        ELSE nullif(concat_ws('; ',
          public.rag_faults(e.value, '{"ruleType": 50, "condition": 1000, "action": 1000}',
            '{"ruleId": 100, "usageReason": 500}'),
          CASE WHEN jsonb_typeof(e.value -> 'wasUsed') NOT IN ('boolean', 'null') THEN 'wasUsed is no boolean' END,
          CASE jsonb_typeof(e.value -> 'usedAtStepIndex') WHEN 'null' THEN NULL
            WHEN 'number' THEN CASE WHEN (e.value ->> 'usedAtStepIndex')::numeric NOT BETWEEN -2147483648 AND 2147483647
              OR (e.value ->> 'usedAtStepIndex')::numeric % 1 <> 0 THEN 'usedAtStepIndex is no whole number' END
            ELSE CASE WHEN e.value ? 'usedAtStepIndex' THEN 'usedAtStepIndex is no whole number' END END,
          CASE WHEN e.value ->> 'usedAtTimestamp' IS NOT NULL AND public.rag_instant(e.value ->> 'usedAtTimestamp') IS NULL
            THEN 'usedAtTimestamp is no instant with an offset' END,
          CASE jsonb_typeof(e.value -> 'retrievalScore') WHEN 'null' THEN NULL
            WHEN 'number' THEN CASE WHEN abs(round((e.value ->> 'retrievalScore')::numeric, 4)) >= 10
              THEN 'retrievalScore is 10 or more' END
            ELSE CASE WHEN e.value ? 'retrievalScore' THEN 'retrievalScore is no number' END END), '') END AS faults
    FROM columns, jsonb_array_elements(CASE jsonb_typeof(columns.value) WHEN 'array' THEN columns.value ELSE '[]' END)
      WITH ORDINALITY AS e (value, position)),
  payers AS (
    INSERT INTO public.execution_rag_payers (id, context_id, payer_name, payer_id, scenario)
    SELECT wanted || '/payer/' || position, wanted, it ->> 'payerName', it ->> 'payerId', it ->> 'scenario'
    FROM elements WHERE name = 'payers' AND faults IS NULL),
  modifiers AS (
    INSERT INTO public.execution_rag_modifiers (id, context_id, code, scenario)
    SELECT wanted || '/modifier/' || position, wanted, it ->> 'code', it ->> 'scenario'
    FROM elements WHERE name = 'modifiers' AND faults IS NULL),
  rules AS (
    INSERT INTO public.execution_rag_rules (id, context_id, rule_id, rule_type, condition, action, was_used,
      used_at_step_index, used_at_timestamp, usage_reason, retrieval_score)
    SELECT wanted || '/rule/' || position, wanted, it ->> 'ruleId', it ->> 'ruleType', it ->> 'condition', it ->> 'action',
      coalesce((it ->> 'wasUsed')::boolean, false), (it ->> 'usedAtStepIndex')::numeric::int,
      public.rag_instant(it ->> 'usedAtTimestamp'), it ->> 'usageReason', (it ->> 'retrievalScore')::numeric
    FROM elements WHERE name = 'rules' AND faults IS NULL),
  rejects AS (
    INSERT INTO public.rag_rejects (context_id, column_name, position, value, reason)
    SELECT wanted, name, NULL, value, 'is no array' FROM columns WHERE jsonb_typeof(value) <> 'array'
    UNION ALL SELECT wanted, name, position, it, faults FROM elements WHERE faults IS NOT NULL
    UNION ALL  -- the row is written; what it has besides, no column takes
    SELECT wanted, name, position, besides, 'no column takes these' FROM elements, LATERAL (
      SELECT it - ARRAY['payerName', 'payerId', 'scenario'] WHERE name = 'payers'
      UNION ALL SELECT it - ARRAY['code', 'scenario'] WHERE name = 'modifiers'
      UNION ALL SELECT it - ARRAY['ruleId', 'ruleType', 'condition', 'action', 'wasUsed', 'usedAtStepIndex',
        'usedAtTimestamp', 'usageReason', 'retrievalScore'] WHERE name = 'rules') AS v (besides)
    WHERE faults IS NULL AND besides <> '{}')
  UPDATE public.execution_rag_context SET
    total_rules_retrieved = (SELECT count(*) FROM elements WHERE name = 'rules'),
    total_rules_used = (SELECT count(*) FROM elements WHERE name = 'rules' AND it -> 'wasUsed' = 'true'),
    average_retrieval_score = (
      SELECT avg((it ->> 'retrievalScore')::numeric) FROM elements WHERE name = 'rules' AND faults IS NULL)
  WHERE id = wanted;
END
$$;
-- next transaction
SET LOCAL lock_timeout = '2s';
CREATE INDEX IF NOT EXISTS idx_rag_context_unsplit ON public.execution_rag_context (id) WHERE total_rules_retrieved IS NULL;
-- next transaction
-- repeat while: SELECT EXISTS (SELECT FROM public.execution_rag_context WHERE total_rules_retrieved IS NULL)
SELECT public.split_rag_context(id)
FROM (SELECT id FROM public.execution_rag_context WHERE total_rules_retrieved IS NULL ORDER BY id LIMIT 1000) AS next;
