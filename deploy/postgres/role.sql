-- The role as which the operator looks at PostgreSQL (spec.signals.postgres). Run it once, as a superuser, in the database
-- that the MCP server uses:
--
--   psql --dbname mcp_prod --file role.sql
--   psql --dbname mcp_prod --command '\password mcp_health'
--
-- Then put postgres://mcp_health:PASSWORD@HOST:5432/mcp_prod into a Secret beside the McpServerHealth object.

-- It may log in. It owns nothing, is no superuser, and no row of a table is readable for it.
CREATE ROLE mcp_health LOGIN;

-- What others do: sessions and their statements, locks, statistics, settings. Without it the operator sees the sessions of
-- its own role only, and says so in the condition SignalsAvailable.
GRANT pg_monitor TO mcp_health;

-- Ending sessions of other roles (the action EndDatabaseSessions). Superusers' sessions cannot be ended with it. Leave this
-- line out where nothing is to be ended: what leaks is told all the same, and a person is called.
GRANT pg_signal_backend TO mcp_health;

-- Which statements are slow, and how often they run. Counts only where the server has
-- shared_preload_libraries = 'pg_stat_statements', which takes a restart of PostgreSQL. Leave it out where that is not
-- wanted: slow statements are not told then, and everything else is.
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;

-- PostgreSQL 16 and later, where reserved_connections is set: one of those connections, so that the operator can still log
-- in when all others are taken. Before 16 it keeps the connection that it has.
-- GRANT pg_use_reserved_connections TO mcp_health;

-- Hints on which columns an index may help, as far as it may read the columns; this one lets it read ALL rows.
-- GRANT pg_read_all_data TO mcp_health;
