//! A credential on its way into a header, and nowhere else.

use std::fmt;

use http::HeaderValue;

/// A bearer token. What it is does not show.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token {
    text: String,
    header: HeaderValue,
}

impl Token {
    /// The token in `text`, with the blanks around it left out (files and Secrets end in a new line); `None` where it
    /// cannot be sent.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut header = HeaderValue::try_from(format!("Bearer {text}")).ok().filter(|_| !text.is_empty())?;
        header.set_sensitive(true);
        Some(Self { text: text.to_owned(), header })
    }

    /// What `Authorization` says.
    pub(crate) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// The words that no sentence may repeat.
    pub(crate) fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_shows() {
        let token = Token::new(" hunter2\n").expect("it can be sent");
        assert_eq!(format!("{token:?} {:?}", token.header()), "Token(***) Sensitive");
        assert_eq!(token.header(), "Bearer hunter2");
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_no_token() {
        for text in ["", " \n", "a\nb", "a\0b"] {
            assert_eq!(Token::new(text), None, "{text:?}");
        }
    }
}
