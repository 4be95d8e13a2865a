//! Several statements of one PostgreSQL connection in one round trip.

use std::pin::Pin;
use std::task::Poll;

use futures_util::poll;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use crate::classify;

/// A parameter of a statement.
pub(crate) type Param<'a> = Box<dyn ToSql + Sync + Send + 'a>;
/// A statement that has been sent, or will be with its first poll; gives the rows it touched.
pub(crate) type Step<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

/// A prepared statement as a step.
pub(crate) fn execute<'a>(
    client: &'a Client,
    statement: &'a Statement,
    params: &'a [Param<'a>],
) -> Step<'a> {
    Box::pin(async move {
        let params: Vec<&(dyn ToSql + Sync)> =
            params.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
        client.execute(statement, &params).await
    })
}

/// A text without parameters as a step.
pub(crate) fn simple<'a>(client: &'a Client, sql: &'a str) -> Step<'a> {
    Box::pin(async move { client.batch_execute(sql).await.map(|()| 0) })
}

/// Runs steps in order without waiting for one before sending the next. tokio-postgres sends a
/// request when its future is first polled, which happens here in order; so once this has been
/// polled, everything up to a final COMMIT is on its way and cancellation cannot split it.
/// Returns the rows each touched, or the error that made the others fail.
pub(crate) async fn run(mut steps: Vec<Step<'_>>) -> Result<Vec<u64>, Error> {
    let mut done = Vec::with_capacity(steps.len());
    for step in &mut steps {
        done.push(match poll!(step.as_mut()) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        });
    }
    let mut touched = Vec::with_capacity(steps.len());
    let mut failure: Option<Error> = None;
    for (step, done) in steps.into_iter().zip(done) {
        let result = match done {
            Some(result) => result,
            None => step.await,
        };
        match result {
            Ok(rows) => touched.push(rows),
            Err(error) if failure.as_ref().is_none_or(classify::follows_a_failure) => {
                failure = Some(error);
            }
            Err(_) => {}
        }
    }
    failure.map_or(Ok(touched), Err)
}
