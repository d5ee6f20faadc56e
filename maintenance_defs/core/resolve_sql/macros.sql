-- Text without blanks and invisible characters at its ends (C12).
CREATE OR REPLACE TEMP MACRO trimmed(v) AS
    regexp_replace(v, '^[\s\p{Z}\p{Cc}\p{Cf}]+|[\s\p{Z}\p{Cc}\p{Cf}]+$', '', 'g');

-- The value has padding, or an invisible character anywhere. Joiners inside emoji do not count.
CREATE OR REPLACE TEMP MACRO is_dirty(v) AS
    regexp_matches(v, '^[\s\p{Z}\p{Cc}\p{Cf}]|[\s\p{Z}\p{Cc}\p{Cf}]$|[\x{00AD}\x{200B}\x{2060}\x{FEFF}]');

-- No value at all: NULL, empty, blank, or the word null (D04).
CREATE OR REPLACE TEMP MACRO is_absent(v) AS
    v IS NULL OR lower(trimmed(v)) IN ('', 'null');

-- Percent-decoded once; as it is where the result would not be UTF-8.
CREATE OR REPLACE TEMP MACRO decoded(v) AS
    CASE WHEN contains(v, '%') THEN coalesce(TRY(url_decode(v)), v) ELSE v END;

-- A query that signs or authorises: such a value is never copied into an output.
CREATE OR REPLACE TEMP MACRO is_signed(v) AS
    regexp_matches(
        v,
        '(?i)[?&#;](?:[\w-]*token|sig|signature|x-amz-[\w-]+|x-goog-[\w-]+|awsaccesskeyid|googleaccessid'
        || '|[\w-]*key|[\w-]*secret|jwt|auth|password|se|sp|sv)='
    );

-- What a value was found to mean. store, or else bucket, says where; path is the key, folder or decoded path.
CREATE OR REPLACE TEMP MACRO target(kind, store, bucket, path, reason) AS
    {
        'kind': kind::VARCHAR,
        'store': store::VARCHAR,
        'bucket': bucket::VARCHAR,
        'path': path::VARCHAR,
        'reason': reason::VARCHAR
    };

-- 'bucket/some/key' in its two parts; an empty key where there is no slash.
CREATE OR REPLACE TEMP MACRO first_segment(path) AS
    regexp_extract(path, '(?s)^([^/]*)/?(.*)$', ['bucket', 'path']);

-- The bucket stands in the host's name, or else is the first segment of the path.
CREATE OR REPLACE TEMP MACRO in_host_or_path(host_bucket, path) AS
    CASE
        WHEN host_bucket <> '' THEN target('exact', NULL, host_bucket, decoded(path), NULL)
        ELSE target('exact', NULL, decoded(first_segment(path).bucket), decoded(first_segment(path).path), NULL)
    END;

-- What of a value that is no URL may be shown: nothing of a query, nothing with a password.
CREATE OR REPLACE TEMP MACRO shown(v) AS
    CASE WHEN regexp_matches(v, '^[^/\s]*:[^/\s]*@') THEN NULL ELSE left(regexp_extract(v, '^[^?#]*'), 1024) END;

-- The characters that HTML writes as entities, in links as people write them.
CREATE OR REPLACE TEMP MACRO html_text(v) AS
    CASE WHEN NOT contains(v, '&') THEN v ELSE
        replace(replace(replace(replace(replace(replace(regexp_replace(regexp_replace(regexp_replace(v,
            '&(?:amp|#0*38|#[xX]0*26);', '&', 'g'),
            '&(?:apos|#0*39|#[xX]0*27);', '''', 'g'),
            '&(?:quot|#0*34|#[xX]0*22);', '"', 'g'),
            '&lt;', '<'), '&gt;', '>'), '&nbsp;', chr(160)), '&#47;', '/'), '&#x2F;', '/'), '&#x2f;', '/')
    END;

-- The text that a JSON string literal stands for; where it is none, only its slashes unescaped.
CREATE OR REPLACE TEMP MACRO json_text(v) AS
    CASE WHEN NOT contains(v, '\') THEN v
        ELSE coalesce(TRY(json_extract_string('"' || v || '"', '$')), replace(v, '\/', '/')) END;

-- The ways to read a path without scheme: as it is, without padding, without a query. Never with a signature.
CREATE OR REPLACE TEMP MACRO plain_readings(v, url) AS
    CASE
        WHEN is_signed(url) THEN [regexp_extract(url, '^[^?#]*')]
        WHEN regexp_matches(url, '\?[^/]*=') THEN list_distinct([v, url, regexp_extract(url, '^[^?]*')])
        ELSE list_distinct([v, url])
    END;

-- Pieces of a value with URLs in it that may name an object besides what it is read as: further URLs, and what an
-- image resizer's query holds. Nothing of a query that signs.
CREATE OR REPLACE TEMP MACRO url_pieces(v) AS list_filter(
    list_distinct(list_concat(
        CASE WHEN regexp_matches(v, '[\s"''<>()\[\]{},;|]') THEN list_transform(
            string_split_regex(v, '[\s"''<>()\[\]{},;|]+'), lambda piece: regexp_extract(piece, '^[^?#&=]*'))
            ELSE [] END,
        CASE WHEN NOT regexp_matches(v, '[?#]') OR is_signed(regexp_replace(v, '(?i)([?&#;])key=', '\1')) THEN []
            ELSE list_transform(
                string_split_regex(regexp_extract(v, '(?s)[?#](.*)$', 1), '[?#&;=]+'),
                lambda part: decoded(decoded(part))) END
    )),
    lambda piece: NOT is_absent(piece) AND length(piece) <= 1024
);

-- One meaning of a literal value.
CREATE OR REPLACE TEMP MACRO meant(kind, piece) AS {'kind': kind::VARCHAR, 'piece': piece::VARCHAR};
