//! Keeps credentials out of everything that people read. Words of foreign programs (log lines, messages of
//! the kubelet) pass through here before they reach an event, a status or a log.

/// Names whose values are never shown.
const SECRET_NAMES: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "authorization",
    "credential",
];

/// What stands for a value that is not shown.
const MASKED: &str = "***";

/// The text with the user part of URLs, the values of secret-looking names, and bearer tokens left out.
pub fn mask(text: &str) -> String {
    let mut masked = Vec::new();
    let mut hide_next = false;
    for word in text.split(' ') {
        if hide_next && !word.is_empty() {
            // `Bearer abc`, `password: abc`.
            let bare = word.to_ascii_lowercase();
            let is_scheme = matches!(bare.trim_matches(['"', '\'']), "bearer" | "basic" | "=" | ":");
            masked.push(if is_scheme { word.to_owned() } else { MASKED.to_owned() });
            hide_next = is_scheme;
            continue;
        }
        let lower = word.to_ascii_lowercase();
        hide_next = lower == "bearer"
            || SECRET_NAMES.iter().any(|name| {
                lower.trim_end_matches(['=', ':']).trim_matches(['"', '\'', ',', '{']).ends_with(name)
                    && lower.ends_with(['=', ':'])
            });
        masked.push(mask_assignment(&mask_url(word)));
    }
    masked.join(" ")
}

/// `postgres://user:pass@host` → `postgres://***@host`.
fn mask_url(word: &str) -> String {
    let Some(scheme) = word.find("://") else { return word.to_owned() };
    let authority = scheme + 3;
    let end = word[authority..].find(['/', '?', '#']).map_or(word.len(), |at| authority + at);
    match word[authority..].rfind('@').map(|at| authority + at) {
        // A password may hold a slash; whatever stands before the last @ is hidden.
        Some(at) if at < end || word[authority..at].contains(':') => {
            format!("{}{MASKED}{}", &word[..authority], &word[at..])
        }
        _ => word.to_owned(),
    }
}

/// `password=abc` and `"token":"abc"` → the name, and `***`.
fn mask_assignment(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    for name in SECRET_NAMES {
        let Some(at) = lower.find(name) else { continue };
        let after = at + name.len();
        // Lengths agree: ASCII lower case keeps them.
        if let Some(sign) = word[after..].find(['=', ':']).filter(|sign| *sign <= 2) {
            let value = after + sign + 1;
            if value < word.len() {
                return format!("{}{MASKED}", &word[..value]);
            }
        }
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_the_usual_places_are_not_shown() {
        for (text, masked) in [
            (
                "cannot reach postgres://mcp:s3cret@db:5432/mcp now",
                "cannot reach postgres://***@db:5432/mcp now",
            ),
            ("postgres://mcp:s3/cret@db/mcp", "postgres://***@db/mcp"),
            ("password=hunter2 refused", "password=*** refused"),
            (r#"{"token":"abc"}"#, r#"{"token":***"#),
            ("Authorization: Bearer abc.def.ghi", "Authorization: Bearer ***"),
            ("password: hunter2", "password: ***"),
            (r#"{"authorization": "Bearer abc.def"}"#, r#"{"authorization": "Bearer ***"#),
            ("DB_PASSWORD=hunter2", "DB_PASSWORD=***"),
            ("sent bearer abc.def", "sent bearer ***"),
        ] {
            assert_eq!(mask(text), masked);
        }
    }

    #[test]
    fn what_is_no_credential_stays_as_it_is() {
        for text in [
            "KeyError: 'DATABASE_URL'",
            "https://example.org/a?b=c",
            "exit code 1",
            "",
            "a@b.example",
            "tokens: 12é",
        ] {
            assert_eq!(mask(text), text);
        }
    }
}
