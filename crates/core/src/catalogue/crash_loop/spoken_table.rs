//! Last lines as real programs write them, and what they come down to; and those that look alike and do not.

use mcp_health_api::Cause::{
    self, CertificateRejected, ConfigError, CredentialsRejected, DatabaseConnection, MissingDependency,
    PermissionDenied, PermissionMissing, PortConflict,
};

use super::{cause, telling};
use crate::last_words;

fn told(log: &str) -> Option<Cause> {
    cause(&last_words::of_log(log)).map(|(cause, _)| cause)
}

#[test]
fn the_last_lines_of_real_programs_name_their_cause() {
    let rows: &[(Cause, &str)] = &[
        // Databases: Rust.
        (
            DatabaseConnection,
            "database error: database connection to db:5432 failed: error connecting to server: Connection refused (os error 111)",
        ),
        (DatabaseConnection, "Error: error communicating with database: Connection refused (os error 111)"),
        (
            DatabaseConnection,
            "thread 'main' panicked at src/main.rs:21:10:\ncalled `Result::unwrap()` on an `Err` value: PoolTimedOut\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
        ),
        (DatabaseConnection, "Error: pool timed out while waiting for an open connection"),
        (CredentialsRejected, "Error: Db(FATAL: password authentication failed for user \"mcp\")"),
        (
            DatabaseConnection,
            "Error: MongoDB: Server selection timeout: No available servers. Topology: { Type: Unknown, Servers: [ { Address: mongo:27017, Error: Kind: I/O error: failed to lookup address information } ] }",
        ),
        (
            DatabaseConnection,
            "Error: Database(PgDatabaseError { severity: Error, code: \"53100\", message: \"could not extend file \\\"base/16384/16397\\\": No space left on device\" })",
        ),
        // Databases: Python.
        (
            DatabaseConnection,
            "psycopg.errors.DiskFull: could not write to file \"base/pgsql_tmp/pgsql_tmp7.0\"",
        ),
        (
            DatabaseConnection,
            "psycopg2.OperationalError: connection to server at \"db\" (10.96.4.1), port 5432 failed: Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
        ),
        (
            DatabaseConnection,
            "Traceback (most recent call last):\n  File \"/app/server.py\", line 9, in <module>\n    engine.connect()\nsqlalchemy.exc.OperationalError: (psycopg2.OperationalError) could not translate host name \"db\" to address: Name or service not known\n\n(Background on this error at: https://sqlalche.me/e/20/e3q8)",
        ),
        (
            CredentialsRejected,
            "asyncpg.exceptions.InvalidPasswordError: password authentication failed for user \"mcp\"",
        ),
        (DatabaseConnection, "asyncpg.exceptions.TooManyConnectionsError: sorry, too many clients already"),
        (
            DatabaseConnection,
            "redis.exceptions.ConnectionError: Error 111 connecting to redis:6379. Connection refused.",
        ),
        (
            DatabaseConnection,
            "pymysql.err.OperationalError: (2003, \"Can't connect to MySQL server on 'mysql' ([Errno 111] Connection refused)\")",
        ),
        (
            DatabaseConnection,
            "pymongo.errors.ServerSelectionTimeoutError: mongo:27017: [Errno -2] Name or service not known, Timeout: 30s",
        ),
        (
            DatabaseConnection,
            "psycopg.OperationalError: connection failed: FATAL:  database \"mcp\" does not exist",
        ),
        // Databases: Node.
        (
            DatabaseConnection,
            "Error: connect ECONNREFUSED 10.96.4.1:5432\n    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1595:16) {\n  errno: -111,\n  code: 'ECONNREFUSED',\n  syscall: 'connect',\n  address: '10.96.4.1',\n  port: 5432\n}\n\nNode.js v20.11.0",
        ),
        (
            DatabaseConnection,
            "PrismaClientInitializationError: Can't reach database server at `db`:`5432`\n\nPlease make sure your database server is running at `db`:`5432`.",
        ),
        (DatabaseConnection, "SequelizeConnectionRefusedError: connect ECONNREFUSED 127.0.0.1:3306"),
        (DatabaseConnection, "MongoServerSelectionError: getaddrinfo ENOTFOUND mongo"),
        (DatabaseConnection, "Error: getaddrinfo ENOTFOUND postgres.mcp.svc.cluster.local"),
        (
            CredentialsRejected,
            "error: no pg_hba.conf entry for host \"10.244.0.9\", user \"mcp\", database \"mcp\", no encryption",
        ),
        (
            CredentialsRejected,
            "Error: ER_ACCESS_DENIED_ERROR: Access denied for user 'mcp'@'10.244.0.9' (using password: YES)",
        ),
        // Databases: Java.
        (
            DatabaseConnection,
            "Caused by: org.postgresql.util.PSQLException: Connection to db:5432 refused. Check that the hostname and port are correct and that the postmaster is accepting TCP/IP connections.\n\tat org.postgresql.core.v3.ConnectionFactoryImpl.openConnectionImpl(ConnectionFactoryImpl.java:342)\n\t... 42 more\nCaused by: java.net.ConnectException: Connection refused\n\tat java.base/sun.nio.ch.Net.pollConnect(Native Method)\n\t... 50 more",
        ),
        (
            DatabaseConnection,
            "com.mysql.cj.jdbc.exceptions.CommunicationsException: Communications link failure",
        ),
        (
            DatabaseConnection,
            "java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available, request timed out after 30000ms.",
        ),
        (
            DatabaseConnection,
            "Caused by: org.postgresql.util.PSQLException: FATAL: remaining connection slots are reserved for non-replication superuser connections",
        ),
        // Databases: Go.
        (
            DatabaseConnection,
            "2026/01/01 12:00:00 failed to connect to `host=db user=mcp database=mcp`: dial error (dial tcp 10.96.4.1:5432: connect: connection refused)",
        ),
        (
            DatabaseConnection,
            "panic: dial tcp 10.96.4.1:5432: connect: connection refused\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/main.go:14 +0x1d",
        ),
        (CredentialsRejected, "2026/01/01 12:00:00 pq: password authentication failed for user \"mcp\""),
        (
            DatabaseConnection,
            "{\"level\":\"fatal\",\"ts\":1767268800,\"msg\":\"cannot start\",\"error\":\"dial tcp: lookup postgres on 10.96.0.10:53: no such host\"}",
        ),
        (DatabaseConnection, "WARN retrying: could not connect to postgres:5432\nINFO shutting down"),
        // Ports.
        (PortConflict, "cannot listen on 0.0.0.0:8000: Address already in use (os error 98)"),
        (
            PortConflict,
            "OSError: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use",
        ),
        (
            PortConflict,
            "ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): [errno 98] address already in use\nINFO:     Waiting for application shutdown.\nINFO:     Application shutdown complete.",
        ),
        (
            PortConflict,
            "Error: listen EADDRINUSE: address already in use :::3000\n    at Server.setupListenHandle [as _listen2] (node:net:1817:16)",
        ),
        (
            PortConflict,
            "Web server failed to start. Port 8080 was already in use.\n\nAction:\n\nIdentify and stop the process that's listening on port 8080 or configure this application to listen on another port.",
        ),
        (PortConflict, "java.net.BindException: Address already in use"),
        (PortConflict, "2026/01/01 12:00:00 listen tcp :8080: bind: address already in use"),
        (PortConflict, "Error: Os { code: 98, kind: AddrInUse, message: \"Address in use\" }"),
        // Permissions.
        (
            PermissionDenied,
            "configuration error: cannot read /etc/mcp/config.yaml: Permission denied (os error 13)",
        ),
        (PermissionDenied, "PermissionError: [Errno 13] Permission denied: '/data/cache'"),
        (PermissionDenied, "Error: EACCES: permission denied, open '/data/state.json'"),
        (PermissionDenied, "Error: listen EACCES: permission denied 0.0.0.0:80"),
        (PermissionDenied, "java.nio.file.AccessDeniedException: /data/state.json"),
        (PermissionDenied, "2026/01/01 12:00:00 listen tcp :443: bind: permission denied"),
        (PermissionDenied, "mkdir: cannot create directory '/data/x': Read-only file system"),
        (
            PermissionDenied,
            "pods is forbidden: User \"system:serviceaccount:mcp:default\" cannot list resource \"pods\"",
        ),
        // What is missing in the image.
        (
            MissingDependency,
            "Traceback (most recent call last):\n  File \"<string>\", line 2, in <module>\n    import nowhere\nModuleNotFoundError: No module named 'nowhere'",
        ),
        (
            MissingDependency,
            "ImportError: cannot import name 'Server' from 'mcp' (/usr/lib/python3/site-packages/mcp/__init__.py)",
        ),
        (
            MissingDependency,
            "node:internal/modules/cjs/loader:1147\n  throw err;\n  ^\n\nError: Cannot find module 'express'\nRequire stack:\n- /app/server.js\n    at Module._resolveFilename (node:internal/modules/cjs/loader:1144:15)\n  code: 'MODULE_NOT_FOUND',\n  requireStack: [ '/app/server.js' ]\n}\n\nNode.js v20.11.0",
        ),
        (
            MissingDependency,
            "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'zod' imported from /app/server.mjs",
        ),
        (
            MissingDependency,
            "Exception in thread \"main\" java.lang.NoClassDefFoundError: com/fasterxml/jackson/databind/ObjectMapper",
        ),
        (
            MissingDependency,
            "Error: Could not find or load main class com.example.Server\nCaused by: java.lang.ClassNotFoundException: com.example.Server",
        ),
        (MissingDependency, "Error: Unable to access jarfile /app/server.jar"),
        (
            MissingDependency,
            "/app/server: error while loading shared libraries: libssl.so.1.1: cannot open shared object file: No such file or directory",
        ),
        (
            MissingDependency,
            "/app/server: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /app/server)",
        ),
        (MissingDependency, "sh: 1: uvicorn: not found"),
        (MissingDependency, "/entrypoint.sh: line 3: gunicorn: command not found"),
        (MissingDependency, "python: can't open file '/app/server.py': [Errno 2] No such file or directory"),
        (MissingDependency, "2026/01/01 12:00:00 open /app/templates/index.html: no such file or directory"),
        // Settings.
        (ConfigError, "configuration error: required setting DATABASE_URL is not set"),
        (ConfigError, "configuration error: MCP_WORKERS is not valid: invalid digit found in string"),
        (
            ConfigError,
            "thread 'main' panicked at src/main.rs:4:45:\ncalled `Result::unwrap()` on an `Err` value: NotPresent",
        ),
        (ConfigError, "Error: missing field `database_url` at line 3 column 1"),
        (ConfigError, "Error: TOML parse error at line 3, column 8"),
        (
            ConfigError,
            "Traceback (most recent call last):\n  File \"/app/server.py\", line 4, in <module>\n    token = os.environ[\"WEATHER_TOKEN\"]\n  File \"<frozen os>\", line 685, in __getitem__\nKeyError: 'WEATHER_TOKEN'",
        ),
        (
            ConfigError,
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for Settings\ndatabase_url\n  Field required [type=missing, input_value={}, input_type=dict]\n    For further information visit https://errors.pydantic.dev/2.7/v/missing",
        ),
        (
            ConfigError,
            "django.core.exceptions.ImproperlyConfigured: The SECRET_KEY setting must not be empty.",
        ),
        (
            ConfigError,
            "yaml.scanner.ScannerError: mapping values are not allowed here\n  in \"/etc/mcp/config.yaml\", line 3, column 8",
        ),
        (ConfigError, "FileNotFoundError: [Errno 2] No such file or directory: '/etc/mcp/config.yaml'"),
        (ConfigError, "Error: Missing required environment variable: API_TOKEN"),
        (
            ConfigError,
            "ZodError: [\n  {\n    \"code\": \"invalid_type\",\n    \"path\": [ \"API_TOKEN\" ],\n    \"message\": \"Required\"\n  }\n]",
        ),
        (ConfigError, "SyntaxError: /app/config.json: Unexpected token } in JSON at position 51"),
        (
            ConfigError,
            "java.lang.IllegalArgumentException: Could not resolve placeholder 'db.url' in value \"${db.url}\"",
        ),
        (ConfigError, "2026/01/01 12:00:00 required key DATABASE_URL missing value"),
        (ConfigError, "panic: env: required environment variable \"API_TOKEN\" is not set"),
        (ConfigError, "error: yaml: line 7: did not find expected key"),
        (ConfigError, "flag provided but not defined: -listen"),
        (ConfigError, "/entrypoint.sh: line 2: API_TOKEN: unbound variable"),
        (ConfigError, "DATABASE_URL must be set"),
    ];
    assert!(rows.len() >= 60);
    for (expected, log) in rows {
        assert_eq!(told(log), Some(*expected), "{log}\n{:#?}", last_words::of_log(log));
    }
}

#[test]
fn a_refusal_is_told_from_an_outage_in_the_words_of_five_languages() {
    let rows: &[(Cause, &str)] = &[
        // Rust.
        (CredentialsRejected, "Error: db error: FATAL: password authentication failed for user \"mcp\""),
        (
            CredentialsRejected,
            "Error: error returned from database: password authentication failed for user \"mcp\"",
        ),
        (
            CredentialsRejected,
            "Error: Database(PgDatabaseError { severity: Fatal, code: \"28P01\", message: \"password authentication failed for user \\\"mcp\\\"\" })",
        ),
        (CertificateRejected, "Error: invalid peer certificate: Expired"),
        (CertificateRejected, "error connecting to server: invalid peer certificate: UnknownIssuer"),
        (PermissionMissing, "Error: error returned from database: permission denied for table assignments"),
        (CredentialsRejected, "Error: WRONGPASS: invalid username-password pair or user is disabled."),
        // Python.
        (
            CredentialsRejected,
            "psycopg.OperationalError: connection failed: connection to server at \"10.96.4.1\", port 5432 failed: FATAL:  password authentication failed for user \"mcp\"",
        ),
        (
            CredentialsRejected,
            "sqlalchemy.exc.OperationalError: (psycopg2.OperationalError) connection to server at \"db\" (10.96.4.1), port 5432 failed: fe_sendauth: no password supplied",
        ),
        (CredentialsRejected, "redis.exceptions.AuthenticationError: NOAUTH Authentication required."),
        (
            CredentialsRejected,
            "pymysql.err.OperationalError: (1045, \"Access denied for user 'mcp'@'10.244.0.9' (using password: YES)\")",
        ),
        (
            PermissionMissing,
            "pymysql.err.OperationalError: (1044, \"Access denied for user 'mcp'@'%' to database 'mcp_prod'\")",
        ),
        (
            CredentialsRejected,
            "pymongo.errors.OperationFailure: Authentication failed., full error: {'ok': 0.0, 'code': 18, 'codeName': 'AuthenticationFailed'}",
        ),
        (
            PermissionMissing,
            "asyncpg.exceptions.InsufficientPrivilegeError: permission denied for schema public",
        ),
        (
            CertificateRejected,
            "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1006)",
        ),
        // Node.
        (
            CredentialsRejected,
            "error: password authentication failed for user \"mcp\"\n    at Parser.parseErrorMessage (/app/node_modules/pg-protocol/dist/parser.js:283:98) {\n  severity: 'FATAL',\n  code: '28P01',\n  routine: 'auth_failed'\n}\n\nNode.js v20.11.0",
        ),
        (PermissionMissing, "error: permission denied for relation assignments\n  code: '42501',"),
        (CredentialsRejected, "MongoServerError: Authentication failed."),
        (CredentialsRejected, "ReplyError: WRONGPASS invalid username-password pair or user is disabled."),
        (CertificateRejected, "Error: certificate has expired\n  code: 'CERT_HAS_EXPIRED'"),
        (CertificateRejected, "Error: self-signed certificate in certificate chain"),
        (PermissionMissing, "MongoServerError: not authorized on mcp to execute command { find: \"tools\" }"),
        // Java.
        (
            CredentialsRejected,
            "Caused by: org.postgresql.util.PSQLException: FATAL: password authentication failed for user \"mcp\"",
        ),
        (
            CredentialsRejected,
            "com.zaxxer.hikari.pool.HikariPool$PoolInitializationException: Failed to initialize pool: FATAL: password authentication failed for user \"mcp\"",
        ),
        (
            CertificateRejected,
            "javax.net.ssl.SSLHandshakeException: PKIX path building failed: sun.security.provider.certpath.SunCertPathBuilderException: unable to find valid certification path to requested target",
        ),
        (PermissionMissing, "org.postgresql.util.PSQLException: ERROR: permission denied for table tools"),
        (CredentialsRejected, "java.sql.SQLException: ORA-01017: invalid username/password; logon denied"),
        // Go.
        (
            CredentialsRejected,
            "2026/01/01 12:00:00 failed to connect to `host=db user=mcp database=mcp`: failed SASL auth (FATAL: password authentication failed for user \"mcp\" (SQLSTATE 28P01))",
        ),
        (PermissionMissing, "2026/01/01 12:00:00 ERROR: permission denied for table tools (SQLSTATE 42501)"),
        (
            CertificateRejected,
            "2026/01/01 12:00:00 tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-01-01T12:00:00Z is after 2025-12-31T00:00:00Z",
        ),
        (
            CredentialsRejected,
            "panic: Error 1045 (28000): Access denied for user 'mcp'@'10.244.0.9' (using password: YES)",
        ),
        // An outage stays one.
        (
            DatabaseConnection,
            "psycopg2.OperationalError: connection to server at \"db\" (10.96.4.1), port 5432 failed: Connection refused",
        ),
        (DatabaseConnection, "FATAL:  the database system is starting up"),
        (DatabaseConnection, "asyncpg.exceptions.TooManyConnectionsError: sorry, too many clients already"),
        (PermissionDenied, "Error: EACCES: permission denied, open '/data/state.json'"),
    ];
    for (expected, log) in rows {
        assert_eq!(told(log), Some(*expected), "{log}\n{:#?}", last_words::of_log(log));
    }
}

#[test]
fn what_only_looks_like_it_names_nothing() {
    for log in [
        "",
        "INFO connected to postgres:5432",
        "INFO retry: connection refused by postgres:5432\nINFO connected",
        "RuntimeError: boom",
        "KeyError: 'user_id'",
        "KeyError: 17",
        "dial tcp 10.96.0.10:443: connect: connection refused",
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='api.example.org', port=443): Max retries exceeded",
        "java.lang.OutOfMemoryError: Java heap space",
        "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
        "MemoryError",
        "thread 'main' panicked at src/main.rs:4:45:\nindex out of bounds: the len is 3 but the index is 7",
        "panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: segmentation violation]\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/main.go:9 +0x1d",
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        "sqlite3.OperationalError: no such table: assignments",
        "ValueError: redis_timeout is too small",
        "WARN redis: connection refused, going on without a cache\nRuntimeError: boom",
        "INFO permission denied for user 7: told so",
        "Segmentation fault (core dumped)",
        "Killed",
        "level=info msg=\"address already in use, trying the next\"",
        "NullPointerException: Cannot invoke \"String.length()\" because \"name\" is null",
        "HTTP_ERROR 500",
        "AssertionError",
    ] {
        assert_eq!(told(log), None, "{log}");
    }
}

#[test]
fn of_several_causes_the_one_that_was_said_last_counts() {
    for (log, expected) in [
        (
            "PermissionError: [Errno 13] Permission denied: '/tmp/x'\nconnection to db:5432 failed: Connection refused",
            DatabaseConnection,
        ),
        (
            "connection to db:5432 failed: Connection refused\nINFO connected to db:5432\nKeyError: 'API_TOKEN'",
            ConfigError,
        ),
        ("ModuleNotFoundError: No module named 'x'\nRuntimeError: giving up", MissingDependency),
    ] {
        assert_eq!(told(log), Some(expected), "{log}");
    }
}

#[test]
fn the_error_itself_is_shown_not_an_attribute_of_it() {
    let lines = last_words::of_log(
        "Error: Cannot find module 'express'\nRequire stack:\n- /app/server.js\n    at x {\n  code: 'MODULE_NOT_FOUND',\n  requireStack: [ '/app/server.js' ]\n}",
    );
    let (cause, at) = cause(&lines).expect("it names a cause");
    assert_eq!(cause, MissingDependency);
    assert_eq!(telling(&lines, at).map(String::as_str), Some("Error: Cannot find module 'express'"));
    let alone = vec!["code: 'EADDRINUSE',".to_owned()];
    assert_eq!(telling(&alone, 0), alone.first());
}
