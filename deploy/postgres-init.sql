-- Prefect's own database beside ours; run by tests/e2e/test_scale.py on Debian's PostgreSQL.
CREATE DATABASE prefect ENCODING 'UTF8' TEMPLATE template0;
\connect prefect
CREATE EXTENSION IF NOT EXISTS pg_trgm;
