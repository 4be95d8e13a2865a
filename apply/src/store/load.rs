//! Reading what judging a batch needs: one statement for each kind, whatever the batch's size.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crossdock_model::LogOrder;
use crossdock_model::canonical::{
    Contribution, Delivery, Evidence, Fields, Links, Loaded, Name, Needs, Record, RecordKey,
    RecordState, Release, RowKey, SourceRow,
};
use crossdock_model::names::shared;
use futures_util::future::{OptionFuture, join_all};
use serde::de::DeserializeOwned;
use tokio_postgres::types::{FromSql, Json as PgJson};
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::deadlines::deadline;
use super::encoding::{Micros, decode_fields, order, text, unreadable};
use super::writes::counter;
use super::{PostgresStore, json_text, said, sql};
use crate::pipeline::Param;
use crate::{ApplyError, classify};

type Query<'a> = (&'static str, Vec<Param<'a>>);

/// Loads everything in one round trip; of `plain` records, only what stands with them.
pub(super) async fn load(
    store: &mut PostgresStore,
    needs: &Needs,
    plain: &[RecordKey],
) -> Result<Loaded, ApplyError> {
    let records = || needs.records.iter().chain(plain);
    let queries = [
        by_row(sql::GET_ROWS, &needs.rows),
        by_row(sql::GET_REFERRING, &needs.referring_to),
        by_record(sql::GET_RECORDS, records()),
        by_record(sql::GET_CONTRIBUTIONS, &needs.records),
        by_record(sql::GET_EVIDENCE, &needs.records),
        by_record(sql::GET_RELEASES, &needs.records),
        by_record(sql::GET_DEADLINES, &needs.records),
        by_record(sql::GET_LINKING, &needs.linking_to),
        by_record(sql::GET_RELEASES_ON, &needs.releases_on),
    ];
    let mut statements = Vec::with_capacity(queries.len());
    for query in &queries {
        statements.push(match query {
            Some((sql, _)) => Some(store.prepared(sql).await?),
            None => None,
        });
    }
    let running = queries.iter().zip(&statements).map(|(query, statement)| {
        OptionFuture::from(
            query.as_ref().zip(statement.as_ref()).map(|(q, s)| fetch(store, s, &q.1)),
        )
    });
    let mut answers = Vec::with_capacity(queries.len());
    for answer in join_all(running).await {
        answers.push(answer.transpose()?.unwrap_or_default());
    }
    assemble(&store.name, records(), answers)
}

async fn fetch(
    store: &PostgresStore,
    statement: &Statement,
    params: &[Param<'_>],
) -> Result<Vec<Row>, ApplyError> {
    let params: Vec<_> =
        params.iter().map(|p| &**p as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
    let rows = store.client.query(statement, &params).await;
    rows.map_err(|e| classify::postgres(&store.name, "reading the canonical store", e))
}

fn by_row<'a>(sql: &'static str, keys: &'a [RowKey]) -> Option<Query<'a>> {
    let keys = distinct(keys);
    let column = |of: fn(&RowKey) -> &Name| -> Param<'a> {
        Box::new(keys.iter().map(|k| text(of(k))).collect::<Vec<_>>())
    };
    (!keys.is_empty())
        .then(|| (sql, vec![column(|k| &k.source), column(|k| &k.table), column(|k| &k.pk)]))
}

fn by_record<'a>(
    sql: &'static str,
    keys: impl IntoIterator<Item = &'a RecordKey>,
) -> Option<Query<'a>> {
    let keys = distinct(keys);
    let column = |of: fn(&RecordKey) -> &Name| -> Param<'a> {
        Box::new(keys.iter().map(|k| text(of(k))).collect::<Vec<_>>())
    };
    (!keys.is_empty()).then(|| (sql, vec![column(|k| &k.entity), column(|k| &k.key)]))
}

fn distinct<'a, K: Hash + Eq>(keys: impl IntoIterator<Item = &'a K>) -> Vec<&'a K> {
    let keys = keys.into_iter();
    let mut seen = HashSet::with_capacity(keys.size_hint().0);
    keys.filter(|k| seen.insert(*k)).collect()
}

/// Puts the answers to the queries together.
fn assemble<'a>(
    server: &str,
    records: impl Iterator<Item = &'a RecordKey>,
    answers: Vec<Vec<Row>>,
) -> Result<Loaded, ApplyError> {
    let mut answers = answers.into_iter().map(|rows| Reader { server, rows });
    let mut next = || answers.next().unwrap_or(Reader { server, rows: Vec::new() });
    let mut loaded = Loaded { rows: next().all(source_row)?, ..Loaded::default() };
    let mut seen = HashSet::new();
    loaded.referring = next().all(source_row)?;
    loaded.referring.retain(|row| seen.insert(row.key.clone()));
    let mut states: HashMap<RecordKey, RecordState> = HashMap::new();
    for (record, said) in next().all(record_with_said)? {
        let state = state(&mut states, &record.key);
        state.apart = said.is_none();
        state.contributions.extend(said.into_iter().flatten());
        state.record = Some(record);
    }
    for contribution in next().all(contribution)? {
        let state = state(&mut states, &contribution.record);
        state.apart = true;
        state.contributions.push(contribution);
    }
    for evidence in next().all(evidence)? {
        state(&mut states, &evidence.record).evidence.push(evidence);
    }
    for release in next().all(release)? {
        state(&mut states, &release.record).releases.push(release);
    }
    for deadline in next().all(deadline)? {
        state(&mut states, &deadline.record).deadlines.push(deadline);
    }
    loaded.records = records.filter_map(|key| states.remove_entry(key)).collect();
    loaded.linking = next().all(|row| Ok((row.record_key(0)?, row.record_key(2)?)))?;
    let mut seen = HashSet::new();
    loaded.releases = next().all(release)?;
    loaded.releases.retain(|r| seen.insert((r.rule.clone(), r.business_key.clone())));
    Ok(loaded)
}

fn state<'m>(
    states: &'m mut HashMap<RecordKey, RecordState>,
    key: &RecordKey,
) -> &'m mut RecordState {
    states.entry(key.clone()).or_default()
}

/// Rows of an answer.
pub(super) struct Reader<'s> {
    pub(super) server: &'s str,
    pub(super) rows: Vec<Row>,
}

impl Reader<'_> {
    pub(super) fn all<T>(
        self,
        read: impl Fn(&Cells<'_>) -> Result<T, ApplyError>,
    ) -> Result<Vec<T>, ApplyError> {
        self.rows.iter().map(|row| read(&Cells { server: self.server, row })).collect()
    }
}

/// Columns of one row, read without panicking.
pub(super) struct Cells<'r> {
    server: &'r str,
    row: &'r Row,
}

impl<'r> Cells<'r> {
    pub(super) fn get<T: FromSql<'r>>(&self, at: usize) -> Result<T, ApplyError> {
        self.row
            .try_get(at)
            .map_err(|e| classify::postgres(self.server, "reading the canonical store", e))
    }

    pub(super) fn name(&self, at: usize) -> Result<Name, ApplyError> {
        Ok(self.get::<&str>(at)?.into())
    }

    /// A name that many share.
    fn shared(&self, at: usize) -> Result<Name, ApplyError> {
        Ok(shared(self.get(at)?))
    }

    /// Entity and key in two columns.
    pub(super) fn record_key(&self, at: usize) -> Result<RecordKey, ApplyError> {
        Ok(RecordKey { entity: self.shared(at)?, key: self.name(at + 1)? })
    }

    /// Source, table and key in three columns.
    fn row_key(&self, at: usize) -> Result<RowKey, ApplyError> {
        let (source, table) = (self.shared(at)?, self.shared(at + 1)?);
        Ok(RowKey { source, table, pk: self.name(at + 2)? })
    }

    pub(super) fn json<T: DeserializeOwned>(&self, at: usize) -> Result<T, ApplyError> {
        let value = self.row.try_get::<_, PgJson<T>>(at);
        value.map(|json| json.0).map_err(|_| unreadable(self.server, "a JSON document"))
    }

    fn fields(&self, at: usize) -> Result<Fields, ApplyError> {
        decode_fields(self.get(at)?).ok_or_else(|| unreadable(self.server, "a row image"))
    }

    fn order(&self, at: usize) -> Result<LogOrder, ApplyError> {
        order(self.get(at)?).ok_or_else(|| unreadable(self.server, "a place in a log"))
    }

    fn micros(&self, at: usize) -> Result<i64, ApplyError> {
        Ok(self.get::<Micros>(at)?.0)
    }

    pub(super) fn counter(&self, at: usize) -> Result<u64, ApplyError> {
        Ok(counter(self.get(at)?))
    }
}

/// The last image of a source row.
pub(super) fn source_row(row: &Cells<'_>) -> Result<SourceRow, ApplyError> {
    Ok(SourceRow {
        key: row.row_key(0)?,
        image: row.fields(3)?.into(),
        at: row.order(4)?,
        deleted: row.get(5)?,
        waiting_for: row.json(6)?,
        refers_to: row.json(7)?,
    })
}

/// A record.
pub(super) fn record(row: &Cells<'_>) -> Result<Record, ApplyError> {
    Ok(Record {
        key: row.record_key(0)?,
        version: row.counter(2)?,
        deleted: row.get(3)?,
        fields: row.json::<json_text::Plain>(4)?.0,
        origins: json_text::origins(row.json(5)?),
        links: row.json(6)?,
    })
}

/// A record, with what is said of it unless that stands apart.
fn record_with_said(row: &Cells<'_>) -> Result<(Record, Option<Vec<Contribution>>), ApplyError> {
    let record = record(row)?;
    let said = match row.get::<&[u8]>(7)? {
        b"" => None,
        bytes => {
            let said = said::decode(bytes, &record.key);
            Some(said.ok_or_else(|| unreadable(row.server, "what is said of a record"))?)
        }
    };
    Ok((record, said))
}

fn contribution(row: &Cells<'_>) -> Result<Contribution, ApplyError> {
    Ok(Contribution {
        record: row.record_key(0)?,
        row: row.row_key(2)?,
        fields: row.fields(5)?.into(),
        links: row.json::<Links>(6)?.into(),
        at: row.order(7)?,
        gone: false,
    })
}

pub(super) fn evidence(row: &Cells<'_>) -> Result<Evidence, ApplyError> {
    Ok(Evidence {
        record: row.record_key(0)?,
        row: row.row_key(2)?,
        id: row.get(5)?,
        kind: row.name(6)?,
        event_micros: row.micros(7)?,
        recorded_micros: row.micros(8)?,
        authority: row.get(9)?,
        at: row.order(10)?,
        withdrawn: row.get(11)?,
        data: row.get(12)?,
    })
}

fn release(row: &Cells<'_>) -> Result<Release, ApplyError> {
    Ok(Release {
        record: row.record_key(0)?,
        rule: row.name(2)?,
        business_key: row.name(3)?,
        unmet: row.get::<Vec<&str>>(4)?.into_iter().map(Name::from).collect(),
        depends: row.json(5)?,
        released: row.get(6)?,
    })
}

/// A delivery with its number.
pub(super) fn delivery(row: &Cells<'_>) -> Result<(u64, Delivery), ApplyError> {
    let delivery = Delivery {
        record: row.record_key(0)?,
        event_id: row.get::<Uuid>(3)?,
        target: row.name(4)?,
        rule: row.name(5)?,
        writes: row.json(6)?,
        reverts: None,
        hops: 0,
    };
    Ok((row.counter(2)?, delivery))
}

/// Progress of one source.
pub(super) fn progress(row: &Cells<'_>) -> Result<super::Progress, ApplyError> {
    Ok(super::Progress {
        source: row.name(0)?,
        seq: row.counter(1)?,
        position: row.get(2)?,
        commit_micros: row.micros(3)?,
    })
}
