//! A connection to PostgreSQL on a thread that may wait, as the store's statements see it.
//!
//! What is written is sent together with whatever is asked next, so that a command takes as many round trips as it has questions,
//! and one for the commit.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::maybe_done;
use futures_util::{FutureExt, TryStreamExt};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Error, Row as DatabaseRow, Statement};

use super::connect::{Driver, Purpose, connect};
use super::parameter::Parameter;
use super::questions::{Question, Questions};
use crate::config::PostgresSettings;
use crate::store::error::StoreError;
use crate::store::sql::connection::{Connection, EachRow, Statements};
use crate::store::sql::value::{Row, Value};

/// A connection, with the statements that were prepared on it and what is still to be sent.
pub(super) struct Session {
    settings: PostgresSettings,
    runtime: Runtime,
    client: Client,
    statements: RefCell<HashMap<Box<str>, Statement>>,
    unsent: RefCell<Vec<Unsent>>,
    /// Answers that are there before they are asked for.
    answers: RefCell<HashMap<Question, Vec<DatabaseRow>>>,
    /// Do they stay true whatever is written?
    answers_stay: Cell<bool>,
    /// What has failed since it was made.
    fault: RefCell<Option<StoreError>>,
    /// How often the server has warned of something.
    warnings: Arc<AtomicU32>,
    /// How long the server may say nothing.
    silence: Duration,
}

enum Unsent {
    /// Without parameters.
    Plain(&'static str),
    Prepared(Statement, Vec<Parameter>),
}

type Sending<'s> = Pin<Box<dyn Future<Output = Result<u64, Error>> + 's>>;

impl Session {
    /// Connects; `told` is called with each notification that comes.
    pub(super) fn open(
        settings: &PostgresSettings,
        purpose: Purpose,
        told: impl FnMut() + Send + 'static,
    ) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let silence = purpose.silence;
        let (client, driver) = runtime.block_on(connect(settings, purpose))?;
        let warnings = Arc::<AtomicU32>::default();
        drop(runtime.spawn(drive(driver, told, Arc::clone(&warnings))));
        Ok(Self {
            settings: settings.clone(),
            runtime,
            client,
            statements: RefCell::default(),
            unsent: RefCell::default(),
            answers: RefCell::default(),
            answers_stay: Cell::new(false),
            fault: RefCell::default(),
            warnings,
            silence,
        })
    }

    /// As statements see it.
    pub(super) const fn connection(&self) -> Connection<'_> {
        Connection(self)
    }

    /// Can nothing more be expected of it?
    pub(super) fn is_over(&self) -> bool {
        // What has come since it was last used: the end, if the server was stopped. First it is heard of, then it is read.
        self.runtime.block_on(async {
            yield_now().await;
            yield_now().await;
        });
        self.fault().is_some() || self.client.is_closed()
    }

    /// How often the server has warned of something.
    pub(super) fn warnings(&self) -> u32 {
        self.warnings.load(Ordering::Relaxed)
    }

    /// What has failed since it was made.
    pub(super) fn fault(&self) -> Option<StoreError> {
        self.fault.borrow().clone()
    }

    /// Runs a statement without parameters, together with the next one.
    pub(super) fn begin(&self, statement: &'static str) {
        self.unsent.borrow_mut().push(Unsent::Plain(statement));
    }

    /// Runs a statement without parameters and all that was not sent before it.
    pub(super) fn finish(&self, statement: &'static str) -> Result<(), StoreError> {
        self.ask(self.client.batch_execute(statement))
    }

    /// Runs a statement without parameters, whose end nobody waits for: it is sent when the connection is served next.
    pub(super) fn send(&self, statement: &'static str) {
        // The first step of it is to hand it to the connection.
        let _ = self.client.batch_execute(statement).now_or_never();
    }

    /// Asks all of it at once, behind all that was not sent before it, in the place of what was asked ahead before. Each is answered from here
    /// when it is asked: until something is written, or however much is where answers `stay`.
    pub(super) fn ask_ahead(&self, questions: Questions, stay: bool) -> Result<(), StoreError> {
        self.answers_stay.set(stay);
        self.answers.borrow_mut().clear();
        let questions = questions.into_inner();
        if questions.is_empty() {
            return Ok(());
        }
        let statements: Vec<Statement> =
            questions.iter().map(|(statement, _)| self.prepared(statement)).collect::<Result<_, _>>()?;
        let asking = statements.iter().zip(&questions).map(|(statement, (_, parameters))| async move {
            self.client.query_raw(statement, parameters).await?.try_collect().await
        });
        let answers: Vec<Vec<DatabaseRow>> = self.ask(in_order(asking))?;
        self.answers.replace(questions.into_iter().zip(answers).collect());
        Ok(())
    }

    /// Forgets the answers to these; the others `stay` or not.
    pub(super) fn forget(&self, questions: Questions, stay: bool) {
        self.answers_stay.set(stay);
        let mut answers = self.answers.borrow_mut();
        questions.into_inner().iter().for_each(|question| drop(answers.remove(question)));
    }

    fn writes(&self) {
        if !self.answers_stay.get() {
            self.answers.borrow_mut().clear();
        }
    }

    /// Runs statements that nobody has prepared.
    pub(super) fn batch(&self, statements: &str) -> Result<(), StoreError> {
        self.wait(self.client.batch_execute(statements))
    }

    /// Waits for some work while the connection is served.
    pub(super) fn idle<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Waits for what is asked, behind all that was not sent before it.
    fn ask<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        let unsent = self.unsent.take();
        self.wait(behind(self.sending(&unsent), asked))
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        let answered = self.runtime.block_on(async { timeout(self.silence, work).await });
        let error = match answered {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => self.settings.account().explain(&error),
            // A server that was stopped acknowledges what it is sent, and says nothing.
            Err(_) => StoreError::Unavailable(format!("no answer within {} s", self.silence.as_secs())),
        };
        self.fault.replace(Some(error.clone()));
        Err(error)
    }

    /// A statement of ours, prepared once.
    fn prepared(&self, statement: &str) -> Result<Statement, StoreError> {
        if let Some(known) = self.statements.borrow().get(statement) {
            return Ok(known.clone());
        }
        let prepared = self.wait(self.client.prepare(&statement.replace('?', "$")))?;
        self.statements.borrow_mut().insert(statement.into(), prepared.clone());
        Ok(prepared)
    }

    fn sending<'s>(&'s self, unsent: &'s [Unsent]) -> Vec<Sending<'s>> {
        let sending = |unsent: &'s Unsent| -> Sending<'s> {
            match unsent {
                Unsent::Plain(statement) => Box::pin(async {
                    self.client.batch_execute(statement).await?;
                    Ok(0)
                }),
                Unsent::Prepared(statement, parameters) => {
                    Box::pin(async move { self.client.execute_raw(statement, parameters).await })
                }
            }
        };
        unsent.iter().map(sending).collect()
    }
}

impl Statements for Session {
    fn query(&self, statement: &str, parameters: &[Value<'_>], each: EachRow<'_>) -> Result<(), StoreError> {
        let parameters: Vec<Parameter> = parameters.iter().map(Parameter::from).collect();
        let question = (statement.into(), parameters);
        if let Some(rows) = self.answers.borrow().get(&question) {
            return rows.iter().try_for_each(|row| each(&Row(row)));
        }
        let (statement, parameters) = (self.prepared(statement)?, question.1);
        let mut rows = Box::pin(self.ask(self.client.query_raw(&statement, &parameters))?);
        loop {
            let portion: Vec<DatabaseRow> = self.wait(async {
                let mut portion = Vec::new();
                while portion.len() < PORTION
                    && let Some(row) = rows.try_next().await?
                {
                    portion.push(row);
                }
                Ok(portion)
            })?;
            let is_last = portion.len() < PORTION;
            portion.iter().try_for_each(|row| each(&Row(row)))?;
            if is_last {
                return Ok(());
            }
        }
    }

    fn change(&self, statement: &str, parameters: &[Value<'_>]) -> Result<usize, StoreError> {
        self.writes();
        let statement = self.prepared(statement)?;
        let parameters: Vec<Parameter> = parameters.iter().map(Parameter::from).collect();
        let changed = self.ask(self.client.execute_raw(&statement, &parameters))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    fn write(&self, statement: &str, parameters: &[Value<'_>]) -> Result<(), StoreError> {
        self.writes();
        let statement = self.prepared(statement)?;
        let parameters = parameters.iter().map(Parameter::from).collect();
        self.unsent.borrow_mut().push(Unsent::Prepared(statement, parameters));
        Ok(())
    }
}

/// Sends all of it at once, in this order, and waits until all of it is done.
async fn behind<T>(
    sending: Vec<Sending<'_>>,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut sending: Vec<Option<Sending<'_>>> = sending.into_iter().map(Some).collect();
    let (mut asked, mut answer) = (pin!(asked), None);
    std::future::poll_fn(|cx| {
        let mut is_done = true;
        for slot in &mut sending {
            match slot.as_mut().map(|one| one.as_mut().poll(cx)) {
                Some(Poll::Pending) => is_done = false,
                // What comes behind it fails for that reason alone.
                Some(Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
                Some(Poll::Ready(Ok(_))) => *slot = None,
                None => {}
            }
        }
        if answer.is_none()
            && let Poll::Ready(ready) = asked.as_mut().poll(cx)
        {
            answer = Some(ready);
        }
        match answer.take() {
            Some(answer) if is_done || answer.is_err() => Poll::Ready(answer),
            waiting => {
                answer = waiting;
                Poll::Pending
            }
        }
    })
    .await
}

/// Begins all of it at once, in this order, and waits until all of it is done.
async fn in_order<T, F>(all: impl Iterator<Item = F>) -> Result<Vec<T>, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut running: Vec<_> = all.map(|one| Box::pin(maybe_done(one))).collect();
    std::future::poll_fn(|cx| {
        // Each is polled, also those behind one that waits.
        let waiting =
            running.iter_mut().filter_map(|one| one.as_mut().poll(cx).is_pending().then_some(())).count();
        if waiting == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.iter_mut().filter_map(|one| one.as_mut().take_output()).collect()
}

/// Serves a connection until it ends.
async fn drive(mut driver: Driver, mut told: impl FnMut(), warnings: Arc<AtomicU32>) {
    loop {
        match std::future::poll_fn(|cx| driver.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(_))) => told(),
            // What it says may hold values.
            Some(Ok(AsyncMessage::Notice(_))) => _ = warnings.fetch_add(1, Ordering::Relaxed),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// Rows that are read before they are looked at.
const PORTION: usize = 4096;
