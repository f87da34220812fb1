//! What the last lines of a program say about why it ended: words of Rust, Python, Node, Java and Go
//! programs, and of what they are usually written with. Words name a cause and may forbid; they never permit.

use mcp_health_api::Cause;

/// One way to say it, in lower case: all of `all`, and one of `any` if there are any.
struct Phrase {
    cause: Cause,
    all: &'static [&'static str],
    any: &'static [&'static str],
}

const fn one_of(cause: Cause, any: &'static [&'static str]) -> Phrase {
    Phrase { cause, all: &[], any }
}

const fn with(cause: Cause, all: &'static [&'static str], any: &'static [&'static str]) -> Phrase {
    Phrase { cause, all, any }
}

/// What tells that a line speaks of a database.
const DATABASES: &[&str] = &[
    "postgres",
    "psycopg",
    "asyncpg",
    "pgx",
    "mysql",
    "mariadb",
    "mongo",
    "redis",
    "sqlx",
    "sqlalchemy",
    "jdbc",
    "hikari",
    "prisma",
    "sequelize",
    "typeorm",
    "database",
    "sqlserver",
    "cassandra",
    ":5432",
    ":6432",
    ":3306",
    ":27017",
    ":6379",
    ":1433",
    ":1521",
    ":9042",
    "port 5432",
    "port 3306",
    "port 6379",
    "port 27017",
];
/// What tells that somebody could not be reached.
const UNREACHED: &[&str] = &[
    "connection refused",
    "connectionrefused",
    "econnrefused",
    "could not connect",
    "couldn't connect",
    "can't connect",
    "cannot connect",
    "failed to connect",
    "unable to connect",
    "connection failed",
    "connection attempt failed",
    "connection error",
    "error connecting",
    "can't reach",
    "cannot reach",
    "unreachable",
    "not reachable",
    "connection reset",
    "econnreset",
    "connection timed out",
    "connection timeout",
    "connect timeout",
    "timed out",
    "timeouterror",
    "etimedout",
    "enotfound",
    "eai_again",
    "name or service not known",
    "temporary failure in name resolution",
    "failed to lookup address",
    "no such host",
    "unknownhost",
    "no route to host",
    "server closed the connection",
    "connection is not available",
    "connection to server",
    "connection terminated",
    " refused. check that the hostname",
];
/// What tells that a file is one of settings.
const SETTINGS_FILES: &[&str] = &[
    ".yaml",
    ".yml",
    ".json",
    ".toml",
    ".ini",
    ".conf",
    ".env",
    ".properties",
    "/etc/",
    "/config",
    "/secrets",
    "settings",
];
/// What tells that something is not there, of a setting.
const NOT_SET: &[&str] = &[
    "must be set",
    "is not set",
    "not set",
    "is required",
    "is missing",
    "missing value",
    "not defined",
    "is undefined",
    "is unset",
    "not found",
    "not present",
    "must not be empty",
    "is empty",
    "unbound variable",
    // The same of a name that looks like a credential's: see `mask`.
    "*** variable",
    "cannot be empty",
    "missing",
];

/// What is there, and refuses the server: these count before words that a connection failed, because a driver
/// says both in one line. Of two that a line says, the first counts.
const REFUSALS: &[Phrase] = &[
    one_of(
        Cause::CertificateRejected,
        &[
            "certificate has expired",
            "certificate expired",
            "certificateexpired",
            "cert_has_expired",
            "certificate is expired",
            "certificate is not yet valid",
            "certificatenotyetvalid",
            "certificate verify failed",
            "certificate_verify_failed",
            "certificate verification failed",
            "certificate signed by unknown authority",
            "x509: certificate",
            "unable to get local issuer certificate",
            "unable_to_get_issuer_cert",
            "unable to verify the first certificate",
            "unable_to_verify_leaf_signature",
            "self-signed certificate",
            "self signed certificate",
            "depth_zero_self_signed_cert",
            "pkix path building failed",
            "pkix path validation failed",
            "certpathvalidatorexception",
            "invalid peer certificate",
            "unknownissuer",
            "err_tls_cert_altname_invalid",
            "hostname mismatch, certificate is not valid for",
            "alert certificate required",
            "alert bad certificate",
            "alert unknown ca",
        ],
    ),
    one_of(
        Cause::PermissionMissing,
        &[
            "permission denied for ",
            "must be owner of ",
            "insufficientprivilege",
            "insufficient_privilege",
            "sqlstate 42501",
            "sqlstate: 42501",
            "'42501'",
            "\"42501\"",
            "command denied to user",
            "er_tableaccess_denied_error",
            "er_dbaccess_denied_error",
            "to execute command {",
            "noperm this user has no permissions",
            "noperm user ",
            "no permissions to access",
            "ora-01031",
            "ora-01045",
        ],
    ),
    with(Cause::PermissionMissing, &["access denied for user", "to database"], &[]),
    with(Cause::PermissionMissing, &["not authorized on ", "to execute"], &[]),
    with(Cause::CredentialsRejected, &["authentication failed"], DATABASES),
    with(Cause::CredentialsRejected, &["login failed for user"], &[]),
    one_of(
        Cause::CredentialsRejected,
        &[
            "password authentication failed",
            "invalidpassworderror",
            "invalidpassword(",
            "invalid_password",
            "invalidauthorizationspecification",
            "sqlstate 28p01",
            "sqlstate 28000",
            "'28p01'",
            "\"28p01\"",
            "no pg_hba.conf entry",
            "no password supplied",
            "fe_sendauth",
            "password must be a string",
            "scram authentication failed",
            "scram-sha-256 authentication failed",
            "access denied for user",
            "er_access_denied_error",
            "er_access_denied",
            "wrongpass invalid username",
            "wrongpass ",
            "noauth authentication required",
            "noauth ",
            "client sent auth, but no password is set",
            "invalid username-password pair",
            "authenticationfailed",
            "mongosecurityexception",
            "sasl authentication failed",
            "authenticationexception",
            "access_refused - login was refused",
            "ora-01017",
            "ora-28000",
            "ora-28001",
        ],
    ),
];

/// The order matters: of two that a line says, the first counts.
const PHRASES: &[Phrase] = &[
    with(Cause::DatabaseConnection, &["fatal", "does not exist"], &["database \"", "role \""]),
    with(
        Cause::DatabaseConnection,
        &["too many connections"],
        &["fatal", "1040", "er_con", "role", "mysql", "database"],
    ),
    with(Cause::DatabaseConnection, &["no space left on device"], DATABASES),
    one_of(
        Cause::DatabaseConnection,
        &[
            // PostgreSQL's disk is full (53100).
            "could not extend file",
            "diskfull",
            "disk_full",
            "too many clients already",
            "remaining connection slots are reserved",
            "could not translate host name",
            "communications link failure",
            "the database system is starting up",
            "the database system is shutting down",
            "prismaclientinitializationerror",
            "sequelizeconnection",
            "mongoserverselectionerror",
            "mongonetworkerror",
            "serverselectiontimeouterror",
            "pool timed out while waiting for an open connection",
            "pooltimedout",
            "tns:no listener",
        ],
    ),
    one_of(
        Cause::PortConflict,
        &[
            "address already in use",
            "address in use",
            "eaddrinuse",
            "addrinuse",
            "only one usage of each socket address",
            "was already in use",
            "port is already in use",
            "port is already allocated",
            "errno 98]",
        ],
    ),
    one_of(
        Cause::PermissionDenied,
        &[
            "permission denied",
            "permissionerror",
            "permissiondenied",
            "eacces",
            "eperm",
            "accessdeniedexception",
            "operation not permitted",
            "read-only file system",
            "erofs",
            "is forbidden: user",
        ],
    ),
    with(Cause::ConfigError, &["no such file or directory"], SETTINGS_FILES),
    one_of(
        Cause::MissingDependency,
        &[
            "modulenotfounderror",
            "no module named",
            "importerror: ",
            "cannot find module",
            "module_not_found",
            "cannot find package",
            "classnotfoundexception",
            "noclassdeffounderror",
            "could not find or load main class",
            "unsatisfiedlinkerror",
            "unable to access jarfile",
            "error while loading shared libraries",
            "cannot open shared object file",
            "executable file not found",
            "command not found",
            "packagenotfounderror",
            "distributionnotfound",
            "can't open file",
        ],
    ),
    with(Cause::MissingDependency, &["glibc", "not found"], &[]),
    with(Cause::MissingDependency, &["sh: ", ": not found"], &[]),
    with(
        Cause::MissingDependency,
        &["no such file or directory"],
        &["filenotfounderror", "enoent", "errno 2]", "os error 2", "code: 2", "open ", "exec", "stat "],
    ),
    with(Cause::ConfigError, &["environment variable"], NOT_SET),
    with(Cause::ConfigError, &["environment variable"], &["invalid"]),
    with(Cause::ConfigError, &["env var"], NOT_SET),
    with(Cause::ConfigError, &["validation error"], &["settings", "config", "environment"]),
    with(Cause::ConfigError, &["invalid type: ", "expected "], &[]),
    with(Cause::ConfigError, &["unexpected token"], SETTINGS_FILES),
    with(Cause::ConfigError, &["jsondecodeerror"], &["config", "settings", "/etc/"]),
    one_of(
        Cause::ConfigError,
        &[
            "configuration error",
            "config error",
            "configerror",
            "configurationerror",
            "configurationexception",
            "configexception",
            "improperlyconfigured",
            "invalid configuration",
            "invalid config",
            "invalid settings",
            "failed to load config",
            "failed to read config",
            "failed to parse config",
            "unable to load config",
            "could not load config",
            "cannot load config",
            "error loading config",
            "error parsing config",
            "error reading config",
            "missing required setting",
            "missing required config",
            "no configuration setting found",
            "could not resolve placeholder",
            "failed to bind properties",
            "undefinedvalueerror",
            "zoderror",
            "missing field `",
            "unknown field `",
            "err` value: notpresent",
            "yaml.scanner.",
            "yaml.parser.",
            "scannererror",
            "yaml: line ",
            "yaml: unmarshal errors",
            "toml parse error",
            "tomldecodeerror",
            "mapping values are not allowed",
            "flag provided but not defined",
            "unrecognized arguments",
            "unexpected argument '",
            "unknown flag: ",
            "parameter not set",
        ],
    ),
];

/// The cause that the last lines name, and the line that does, by its place. The last that names one counts:
/// what was said before it may have been overcome.
pub fn cause(lines: &[String]) -> Option<(Cause, usize)> {
    let mut an_error_came_after = false;
    for (at, line) in lines.iter().enumerate().rev() {
        let lower = line.to_ascii_lowercase();
        let warns = match level(&lower) {
            Level::Quiet => continue,
            Level::Warning => true,
            Level::Error => false,
        };
        // What a program warned of before it ended for another reason is not why it ended.
        if let Some(cause) = named_by(line, &lower).filter(|_| !(warns && an_error_came_after)) {
            return Some((cause, at));
        }
        an_error_came_after |=
            !warns && ["error", "exception", "panic", "fatal"].iter().any(|one| lower.contains(one));
    }
    None
}

/// The line to show for the one that names the cause: where that is an attribute of an error, as Node prints
/// them after it (`code: 'MODULE_NOT_FOUND',`), the error itself.
pub fn telling(lines: &[String], at: usize) -> Option<&String> {
    let named = lines.get(at)?;
    if !is_attribute(named) {
        return Some(named);
    }
    let errors = lines[..at].iter().rev().filter(|line| !is_attribute(line));
    errors.into_iter().find(|line| line.to_ascii_lowercase().contains("error")).or(Some(named))
}

/// `code: 'ECONNREFUSED',`, `port: 5432`: one attribute of an object.
pub fn is_attribute(line: &str) -> bool {
    line.split_once(": ").is_some_and(|(name, value)| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && (value.starts_with(['\'', '[', '{']) || value.ends_with(','))
    })
}

fn named_by(line: &str, lower: &str) -> Option<Cause> {
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let is_said = |phrase: &&Phrase| {
        phrase.all.iter().all(|word| lower.contains(word)) && (phrase.any.is_empty() || says(phrase.any))
    };
    if let Some(refusal) = REFUSALS.iter().find(is_said) {
        return Some(refusal.cause);
    }
    if says(DATABASES) && says(UNREACHED) {
        return Some(Cause::DatabaseConnection);
    }
    let phrase = PHRASES.iter().find(is_said);
    phrase.map(|phrase| phrase.cause).or_else(|| {
        // `KeyError: 'DATABASE_URL'` is a setting; `KeyError: 'user_id'` is the program's own mistake.
        let names_a_setting =
            line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(is_a_setting);
        (names_a_setting && (line.contains("KeyError: ") || says(NOT_SET))).then_some(Cause::ConfigError)
    })
}

/// `DATABASE_URL`, `WEATHER_TOKEN`, `MCP_PORT`: how settings in the environment are named.
fn is_a_setting(word: &str) -> bool {
    let capitals = word.chars().filter(char::is_ascii_uppercase).count();
    capitals >= 3
        && (word.contains('_') || capitals >= 4)
        && !word.starts_with('_')
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        && !["ERROR", "FATAL", "WARN", "WARNING", "CRITICAL", "PANIC"].contains(&word)
        && !word.starts_with("ERR_")
}

enum Level {
    /// Nothing was wrong when it was said.
    Quiet,
    Warning,
    Error,
}

/// By the first words of a line, in lower case: time, level, source come first in any format.
fn level(lower: &str) -> Level {
    let mut first = lower.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).take(6);
    first
        .find_map(|word| match word {
            "info" | "debug" | "trace" | "notice" => Some(Level::Quiet),
            "warn" | "warning" => Some(Level::Warning),
            "error" | "fatal" | "critical" | "panic" => Some(Level::Error),
            _ => None,
        })
        .unwrap_or(Level::Error)
}

#[cfg(test)]
#[path = "spoken_table.rs"]
mod table;
