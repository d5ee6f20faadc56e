-- Values inside JSON. Filled in by resolve.py: found is a list of JSON at the declared path, at that path,
-- wild whether the path may meet several values.
-- Lists are searched at every depth; an object where text should be is said to be one, and its texts count too.
-- What of a document was not read, since it is broken, lacks the path or has an object there, may name objects
-- all the same: its texts, its objects' names and the pieces between its punctuation are given as $unread.
-- nth: which value of the row's list it is; null where the row has none.
SELECT row_id, dated_at, size_bytes, in_progress,
    unnest(list_concat(CASE
        WHEN broken THEN [{'value': NULL::VARCHAR, 'fault': $broken, 'nth': NULL::BIGINT}]
        WHEN len(leaves) = 0 AND NOT holds_object
            THEN [{'value': NULL::VARCHAR, 'fault': NULL::VARCHAR, 'nth': NULL::BIGINT}]
        ELSE list_concat(
            list_transform(leaves, lambda leaf, n: {
                'value': json_extract_string(leaf, '$'),
                'fault': NULL::VARCHAR,
                'nth': CASE WHEN $wild OR json_type(nodes[1]) IN ('ARRAY', 'OBJECT') THEN n END
            }),
            CASE WHEN holds_object
                THEN [{'value': NULL::VARCHAR, 'fault': 'an object stands at ' || $at, 'nth': NULL::BIGINT}]
                ELSE [] END
        )
    END, CASE
        WHEN trimmed(v0) <> '' AND (broken OR len(leaves) = 0 OR holds_object) THEN list_transform(
            list_filter(
                list_distinct(list_concat(
                    string_split_regex(regexp_replace(v0, '\\+/', '/', 'g'), '[\s"''<>(){}\[\],;|\\]+'),
                    string_split(replace(v0, '\"', ''), '"'),  -- with blanks and commas in it
                    list_transform(json_extract(document, '$..*'), lambda j: json_extract_string(j, '$'))
                )),
                lambda piece: NOT is_absent(piece) AND length(piece) <= 1024
            ),
            lambda piece: {'value': piece, 'fault': $unread, 'nth': NULL::BIGINT}
        )
        ELSE []
    END), recursive := true)
FROM (
    SELECT *,
        list_filter(nodes, lambda j: json_type(j) NOT IN ('NULL', 'BOOLEAN', 'ARRAY', 'OBJECT')) AS leaves,
        len(list_filter(nodes, lambda j: json_type(j) = 'OBJECT')) > 0 AS holds_object
    FROM (
        SELECT *,
            flatten(list_transform(
                list_filter(coalesce($found, []), lambda j: j IS NOT NULL),
                lambda j: list_concat([j], json_extract(j, '$..*'))
            )) AS nodes
        FROM (
            SELECT *,
                trimmed(v0) <> '' AND NOT json_valid(v0) AS broken,
                -- a document that was stored as a JSON string once more
                CASE
                    WHEN NOT json_valid(v0) THEN NULL
                    WHEN json_type(v0) = 'VARCHAR'
                        AND json_valid(json_extract_string(v0, '$'))
                        AND json_type(json_extract_string(v0, '$')) IN ('OBJECT', 'ARRAY')
                        THEN json_extract_string(v0, '$')
                    ELSE v0
                END AS document
            FROM reference_rows
        )
    )
)
