//! What went wrong with PostgreSQL, in words for people: which step it was, without its address's
//! credentials.

use mcp_health_core::{
    mcp::foreign,
    signals::{CheckStep, Failure},
};
use tokio_postgres::{Error, error::SqlState};

/// What a failed login comes to. `spoke` tells whether the server said anything before.
pub fn of_login(error: &Error, spoke: bool, password: Option<&str>) -> Failure {
    let Some(said) = error.as_db_error() else {
        // A password that is missing counts as configuration.
        let is_auth = ["authentication error", "invalid configuration"].contains(&error.to_string().as_str());
        return match (is_auth, spoke) {
            (true, _) => Failure::new(
                CheckStep::Login,
                "wants a way to log in that does not fit the URL's credentials",
            ),
            (false, true) => Failure::new(CheckStep::Login, "ends the connection at the login"),
            (false, false) => {
                Failure::new(CheckStep::Handshake, "ends the connection before it says anything")
            }
        };
    };
    let words = foreign(said.message(), password);
    let code = said.code();
    let (step, what) = if *code == SqlState::INVALID_PASSWORD {
        (CheckStep::Login, "refuses the password")
    } else if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        (CheckStep::Login, "does not let the role in")
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        (CheckStep::Login, "has no such database")
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        (CheckStep::Login, "does not let the role into the database")
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        (CheckStep::Answer, "has no connection left")
    } else if *code == SqlState::CANNOT_CONNECT_NOW {
        (CheckStep::Answer, "takes no sessions now")
    } else {
        (CheckStep::Login, "does not take the login")
    };
    Failure::new(step, format!("{what}: {words} ({})", code.code()))
}

/// What a question without an answer comes to.
pub fn of_answer(error: &Error, password: Option<&str>) -> Failure {
    let said = match error.as_db_error() {
        Some(said) if *said.code() == SqlState::QUERY_CANCELED => {
            "does not answer a question of its own views in time (57014)".to_owned()
        }
        Some(said) if is_end(said.code()) => {
            format!("ends the session: {} ({})", foreign(said.message(), password), said.code().code())
        }
        Some(said) => {
            format!("does not answer: {} ({})", foreign(said.message(), password), said.code().code())
        }
        None if error.is_closed() => "has ended the session".to_owned(),
        None => "ends the session in the middle of an answer".to_owned(),
    };
    Failure::new(CheckStep::Answer, said)
}

/// Data that is broken (SQLSTATE XX001, XX002), as a sentence.
pub fn damage(error: &Error, password: Option<&str>) -> Option<String> {
    one_of(&[SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED], error, password)
}

/// A disk that nothing more can be written to (SQLSTATE 53100), as a sentence. What a role may use up (53400)
/// is another thing.
pub fn disk_full(error: &Error, password: Option<&str>) -> Option<String> {
    one_of(&[SqlState::DISK_FULL], error, password)
}

/// The message of an error with one of these codes, and its code.
fn one_of(codes: &[SqlState], error: &Error, password: Option<&str>) -> Option<String> {
    let said = error.as_db_error().filter(|said| codes.contains(said.code()))?;
    Some(format!("{} ({})", foreign(said.message(), password), said.code().code()))
}

fn is_end(code: &SqlState) -> bool {
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
}
