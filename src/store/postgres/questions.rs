//! Questions that are asked together, before anybody needs their answers.

use std::cell::RefCell;

use super::parameter::Parameter;
use crate::store::error::StoreError;
use crate::store::sql::connection::{Connection, EachRow, Statements};
use crate::store::sql::value::Value;

/// A statement with its parameters.
pub(super) type Question = (Box<str>, Vec<Parameter>);

/// Notes what is asked of it, each question once, and finds no rows.
#[derive(Default)]
pub(super) struct Questions(RefCell<Vec<Question>>);

impl Questions {
    /// As statements see it.
    pub(super) const fn connection(&self) -> Connection<'_> {
        Connection(self)
    }

    /// What was asked, in order.
    pub(super) fn into_inner(self) -> Vec<Question> {
        self.0.into_inner()
    }
}

impl Statements for Questions {
    fn query(&self, statement: &str, parameters: &[Value<'_>], _: EachRow<'_>) -> Result<(), StoreError> {
        let question = (statement.into(), parameters.iter().map(Parameter::from).collect());
        let mut noted = self.0.borrow_mut();
        if !noted.contains(&question) {
            noted.push(question);
        }
        Ok(())
    }

    fn change(&self, _: &str, _: &[Value<'_>]) -> Result<usize, StoreError> {
        Err(StoreError::Failed("a question would change something".into()))
    }
}
