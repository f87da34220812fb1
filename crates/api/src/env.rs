//! Variables that the operator never sets: what weakens authentication or TLS, loads code, sends traffic elsewhere,
//! or holds a credential. One list, for admission and for the operator.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of an environment variable.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct EnvName(
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))] pub String,
);

/// These, whole.
const WHOLE: &[&str] = &["PATH", "ENV", "BASH_ENV", "SHELL", "IFS", "HOME"];
/// What begins so.
const BEGINS: &[&str] = &["LD_", "DYLD_", "BASH_FUNC", "GIT_", "KUBERNETES_"];
/// What has this anywhere.
const HAS: &[&str] = &[
    // Authentication and TLS.
    "AUTH",
    "VERIFY",
    "INSECURE",
    "REJECT_UNAUTHORIZED",
    "TLS",
    "SSL",
    "HTTPS",
    "CERT",
    "CA_BUNDLE",
    "ALLOWED_",
    "CORS",
    "TRUST",
    // Code.
    "BREAKPOINT",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONINSPECT",
    "PYTHONUSERBASE",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_EXTRA",
    "JAVA_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "CLASSPATH",
    "RUBYOPT",
    "RUBYLIB",
    "PERL5",
    "PRELOAD",
    // Where traffic goes.
    "PROXY",
    "_URL",
    "_URI",
    "_DSN",
    "CONNECTION_STRING",
    // Credentials.
    "SECRET",
    "TOKEN",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "PRIVATE",
    "APIKEY",
    "_KEY",
    "KEY_",
];

/// Whether the operator never sets a variable of this name, whatever is allowed.
pub fn is_denied_env(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    WHOLE.contains(&name.as_str())
        || BEGINS.iter().any(|part| name.starts_with(part))
        || HAS.iter().any(|part| name.contains(part))
}

/// The same as a regular expression, for the API server.
fn denied() -> String {
    format!("(?i)(^({})$|^({})|{})", WHOLE.join("|"), BEGINS.join("|"), HAS.join("|"))
}

/// CEL: `names` has none of them.
pub(crate) fn none_is_denied() -> String {
    format!("self.all(name, !name.matches('{}'))", denied())
}

/// CEL: the name is none of them.
pub(crate) fn is_not_denied() -> String {
    format!("!self.matches('{}')", denied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_weakens_loads_redirects_or_holds_credentials_is_denied_and_settings_are_not() {
        for name in [
            "MCP_AUTH_ENABLED",
            "NODE_TLS_REJECT_UNAUTHORIZED",
            "PYTHONHTTPSVERIFY",
            "REQUESTS_VERIFY",
            "GIT_SSL_NO_VERIFY",
            "MCP_INSECURE",
            "MCP_DEBUG_BREAKPOINT",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "PATH",
            "Path",
            "PYTHONPATH",
            "NODE_OPTIONS",
            "JAVA_TOOL_OPTIONS",
            "_JAVA_OPTIONS",
            "HTTP_PROXY",
            "https_proxy",
            "no_proxy",
            "SSL_CERT_FILE",
            "DATABASE_URL",
            "DB_PASSWORD",
            "API_KEY",
            "GITHUB_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
        ] {
            assert!(is_denied_env(name), "{name}");
        }
        for name in [
            "DB_POOL_SIZE",
            "DB_POOL_MAX_OVERFLOW",
            "DB_POOL_TIMEOUT",
            "PYTHONTRACEMALLOC",
            "MALLOC_TRIM_THRESHOLD_",
            "PYTHONGC",
            "MCP_LOG_LEVEL",
            "MCP_DEBUG",
            "MCP_WORKERS",
            "MCP_TIMEOUT",
            "MCP_MAX_CONNECTIONS",
            "MCP_ENABLE_CACHE",
            "MCP_PORT",
            "MCP_KEEPALIVE",
        ] {
            assert!(!is_denied_env(name), "{name}");
        }
    }
}
