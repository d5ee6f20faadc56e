SELECT (SELECT COUNT(*) FROM execution_rag_context) AS contexts,
       (SELECT COUNT(*) FROM execution_rag_payers) AS payers,
       (SELECT COUNT(*) FROM execution_rag_modifiers) AS modifiers,
       COUNT(*) AS rules,
       COUNT(DISTINCT (rule_id, rule_type, condition, action)) AS distinct_rules,
       PG_TOTAL_RELATION_SIZE('execution_rag_context') AS context_bytes,
       PG_TOTAL_RELATION_SIZE('execution_rag_rules') + PG_TOTAL_RELATION_SIZE('execution_rag_payers')
         + PG_TOTAL_RELATION_SIZE('execution_rag_modifiers') AS split_bytes
FROM execution_rag_rules
