-- Before the migrations that add archives, split the RAG context and slim the metadata.
CREATE TABLE organizations (id TEXT PRIMARY KEY, name TEXT NOT NULL, log_retention_days INTEGER);  -- NULL: the default
CREATE TABLE workflows (id TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE clients (id TEXT PRIMARY KEY, name TEXT NOT NULL, npi TEXT);
CREATE TABLE credentials (id TEXT PRIMARY KEY, account_name TEXT NOT NULL);
CREATE TABLE claim_submissions (id TEXT PRIMARY KEY, patient_name TEXT, patient_id TEXT);           -- PHI
CREATE TABLE jobs (id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, workflow_id TEXT NOT NULL, status TEXT NOT NULL,
  credential_ids TEXT[] NOT NULL, result JSONB, error_message TEXT,
  created_at TIMESTAMPTZ NOT NULL, started_at TIMESTAMPTZ, completed_at TIMESTAMPTZ);
CREATE TABLE execution_logs (  -- the old table, empty since its rows moved
  id TEXT PRIMARY KEY, job_id TEXT NOT NULL, step_index INT NOT NULL, step_name VARCHAR(500), level VARCHAR(10) NOT NULL,
  message TEXT NOT NULL, metadata JSONB, timestamp TIMESTAMPTZ NOT NULL DEFAULT NOW(), duration INT);
CREATE TABLE execution_log_partitioned (
  id TEXT NOT NULL, job_id TEXT NOT NULL, step_index INT NOT NULL, step_name VARCHAR(500), level VARCHAR(10) NOT NULL,
  message TEXT NOT NULL, metadata JSONB, timestamp TIMESTAMPTZ NOT NULL DEFAULT NOW(), duration INT,
  PRIMARY KEY (id, timestamp)) PARTITION BY RANGE (timestamp);
CREATE TABLE execution_log_partitioned_p2025_11 PARTITION OF execution_log_partitioned
  FOR VALUES FROM ('2025-11-01 00:00:00+00') TO ('2025-12-01 00:00:00+00');
CREATE TABLE execution_log_partitioned_default PARTITION OF execution_log_partitioned DEFAULT;
CREATE INDEX idx_log_job ON execution_log_partitioned(job_id);
CREATE TABLE phi_audit_logs (id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, user_id TEXT NOT NULL, action TEXT NOT NULL,
  resource_type TEXT NOT NULL, resource_id TEXT, details JSONB, created_at TIMESTAMPTZ NOT NULL);
CREATE TABLE execution_screenshots (id TEXT PRIMARY KEY, job_id TEXT NOT NULL, step_index INT NOT NULL, url TEXT NOT NULL,
  width INT, height INT, captured_at TIMESTAMPTZ NOT NULL);
CREATE TABLE execution_rag_context (id TEXT PRIMARY KEY, job_id TEXT UNIQUE NOT NULL, organization_id TEXT NOT NULL,
  rag_retrieval_time_ms INT NOT NULL, payers JSONB NOT NULL, modifiers JSONB NOT NULL, rules JSONB NOT NULL,
  retrieved_at TIMESTAMPTZ NOT NULL);
CREATE TABLE execution_metadata (id TEXT PRIMARY KEY, job_id TEXT UNIQUE NOT NULL, organization_id TEXT NOT NULL,
  workflow_id TEXT NOT NULL, workflow_name TEXT NOT NULL, client_id TEXT, client_name TEXT, client_npi TEXT,
  claim_submission_id TEXT, insuree_name TEXT, insuree_id TEXT, primary_account_id TEXT, primary_account_name TEXT,
  all_account_ids TEXT[] NOT NULL, all_account_names TEXT[] NOT NULL, account_count INT NOT NULL,
  status TEXT NOT NULL, progress_percent NUMERIC(5,2) NOT NULL, total_steps INT NOT NULL, completed_steps INT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL, duration_ms INT);
CREATE TABLE schedule_executions (id TEXT PRIMARY KEY, error_stack TEXT, created_at TIMESTAMPTZ NOT NULL);
CREATE TABLE healing_attempts (id TEXT PRIMARY KEY, reasoning TEXT NOT NULL, created_at TIMESTAMPTZ NOT NULL);
CREATE TABLE healing_suggestions (id TEXT PRIMARY KEY, error_pattern TEXT NOT NULL, dismiss_reason TEXT, created_at TIMESTAMPTZ NOT NULL);
