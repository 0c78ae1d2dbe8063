//! A check of everything in a store: what its engine says of it, the rules that its rows keep, and every row as its readers read it.

use super::error::StoreError;
use super::sql::inspect;
use super::{Store, sql::tables};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Each table with the number of its rows.
    pub tables: Vec<(&'static str, u64)>,
    /// What was looked at, in that order.
    pub findings: Vec<Finding>,
}

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static str,
    /// How it is broken, if it is; without values of users.
    pub fault: Option<String>,
}

impl Inspection {
    /// Is everything as it should be?
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.fault.is_none())
    }
}

impl Store {
    /// Checks the whole store as of one moment. `begin` hears of each rule before it is looked at.
    ///
    /// # Errors
    ///
    /// If the store cannot be read; what is wrong in it is no error.
    pub async fn inspect(
        &self,
        mut begin: impl FnMut(&'static str) + Send + 'static,
    ) -> Result<Inspection, StoreError> {
        begin(WHOLE);
        let mut findings = vec![found(WHOLE, self.checked().await)?];
        let engine = self.engine.kind();
        self.read(move |connection| {
            engine.be_patient(connection)?;
            let mut tables = Vec::new();
            for table in tables::all() {
                tables.push((table.name, table.count(connection)?));
            }
            for (rule, broken) in inspect::RULES {
                begin(rule);
                let broken = inspect::count(connection, broken)?;
                let fault = (broken > 0).then(|| format!("broken {broken} times"));
                findings.push(Finding { rule, fault });
            }
            for (rule, read) in inspect::READERS {
                begin(rule);
                findings.push(found(rule, read(connection))?);
            }
            Ok(Inspection { tables, findings })
        })
        .await
    }
}

/// What is damaged is a finding, everything else ends the check.
fn found(rule: &'static str, checked: Result<(), StoreError>) -> Result<Finding, StoreError> {
    match checked {
        Ok(()) => Ok(Finding { rule, fault: None }),
        Err(StoreError::Damaged(text)) => Ok(Finding { rule, fault: Some(text) }),
        Err(error) => Err(error),
    }
}

/// What an engine knows itself. PostgreSQL checks its pages when it reads them.
const WHOLE: &str = "the file or database is whole, and of this schema";
