//! What asking a dependency came to: the same for all of them.

use mcp_health_core::signals::{Certificate, Failure};

use crate::Barred;

/// What asking came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// It answered as it should, or the step that failed.
    pub result: Result<(), Failure>,
    /// The certificate that it showed, whether it holds or not.
    pub certificate: Option<Certificate>,
    /// What is worth saying beside that, as sentences without a subject, the most telling first; a few at
    /// most.
    pub remarks: Vec<String>,
}

impl Default for Asked {
    fn default() -> Self {
        Self { result: Ok(()), certificate: None, remarks: Vec::new() }
    }
}

impl Asked {
    /// What it came to in the end; `Err` where it is not asked, with the reason for people.
    pub(crate) fn ended(self, result: Result<(), Barred>) -> Result<Self, String> {
        match result {
            Ok(()) => Ok(Self { result: Ok(()), ..self }),
            Err(Barred::Failed(failure)) => Ok(Self { result: Err(failure), ..self }),
            Err(Barred::Forbidden(why)) => Err(why),
        }
    }
}
