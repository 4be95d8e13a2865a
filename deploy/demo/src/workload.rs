//! Runs the applications' transactions on the four source databases, some orders at a time, and
//! keeps account of what became true.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mysql_async::prelude::Queryable;
use tokio_postgres::error::SqlState;

use crate::expect::Model;
use crate::plan::Plan;
use crate::play::{self, System, Transaction};
use crate::systems::{ERP_APP, Systems, TMS_APP, WMS_APP};

/// How long a transaction is tried again while its database is away.
const PATIENCE: Duration = Duration::from_secs(180);
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Ports of the four source databases on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// ERP.
    pub erp: u16,
    /// EU warehouse.
    pub wms_eu: u16,
    /// US warehouse.
    pub wms_us: u16,
    /// TMS.
    pub tms: u16,
}

impl From<&Systems> for Ports {
    fn from(systems: &Systems) -> Self {
        Self {
            erp: systems.erp.port(),
            wms_eu: systems.wms_eu.port(),
            wms_us: systems.wms_us.port(),
            tms: systems.tms.port(),
        }
    }
}

/// The applications at work. The sequence of transactions depends on the seed and on how many
/// rounds are played, and on nothing else.
pub struct Workload {
    seed: u64,
    next: u32,
    active: VecDeque<VecDeque<Transaction>>,
    clients: Clients,
    model: Model,
    transactions: u64,
}

impl Workload {
    /// A workload for `seed` on top of the history.
    pub fn new(seed: u64, ports: Ports) -> Self {
        Self {
            seed,
            next: 0,
            active: VecDeque::new(),
            clients: Clients { ports, erp: None, wms_us: None, wms_eu: None, tms: None },
            model: crate::seed::model(),
            transactions: 0,
        }
    }

    /// What must come out, given what has been done so far.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Orders started.
    pub fn started(&self) -> u32 {
        self.next
    }

    /// Orders that have begun and not ended.
    pub fn under_way(&self) -> usize {
        self.active.len()
    }

    /// Transactions committed.
    pub fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Plays `orders` orders from start to end, as fast as the databases allow.
    pub async fn play(&mut self, orders: u32) -> Result<()> {
        let last = self.next + orders;
        while self.next < last {
            self.round(true).await?;
        }
        self.finish().await
    }

    /// Plays what is under way to its end.
    pub async fn finish(&mut self) -> Result<()> {
        while !self.active.is_empty() {
            self.round(false).await?;
        }
        Ok(())
    }

    /// One round: perhaps a new order, and one transaction for each order under way.
    pub async fn round(&mut self, start: bool) -> Result<()> {
        if start {
            let plan = Plan::new(self.seed, self.next);
            self.active.push_back(play::transactions(&plan)?.into());
            self.next += 1;
        }
        for _ in 0..self.active.len() {
            let Some(mut order) = self.active.pop_front() else { break };
            if let Some(transaction) = order.pop_front() {
                self.clients.run(&transaction).await?;
                for fact in &transaction.facts {
                    self.model.note(fact);
                }
                self.transactions += 1;
            }
            if !order.is_empty() {
                self.active.push_back(order);
            }
        }
        Ok(())
    }
}

/// Connections as the applications' own users, made when first needed and after every error.
struct Clients {
    ports: Ports,
    erp: Option<tokio_postgres::Client>,
    wms_us: Option<tokio_postgres::Client>,
    wms_eu: Option<mysql_async::Conn>,
    tms: Option<mysql_async::Conn>,
}

/// How a transaction ended that did not commit.
enum Failure {
    /// The database or the connection is away, or asks to try again.
    Transient(anyhow::Error),
    /// The unique key is already there.
    Exists(anyhow::Error),
    /// Trying again cannot help.
    Definite(anyhow::Error),
}

impl Clients {
    async fn run(&mut self, transaction: &Transaction) -> Result<()> {
        let begun = Instant::now();
        let mut unknown_outcome = false;
        loop {
            let done = match transaction.system {
                System::Erp => {
                    postgres(&mut self.erp, self.ports.erp, "erp", ERP_APP, transaction).await
                }
                System::WmsUs => {
                    postgres(&mut self.wms_us, self.ports.wms_us, "wms_us", WMS_APP, transaction)
                        .await
                }
                System::WmsEu => {
                    mariadb(&mut self.wms_eu, self.ports.wms_eu, "wms", WMS_APP, transaction).await
                }
                System::Tms => {
                    mariadb(&mut self.tms, self.ports.tms, "tms", TMS_APP, transaction).await
                }
            };
            let Err(failure) = done else { return Ok(()) };
            self.hang_up(transaction.system);
            match failure {
                Failure::Exists(_) if unknown_outcome => return Ok(()),
                Failure::Exists(error) | Failure::Definite(error) => {
                    let first = transaction.statements.first().map_or("", String::as_str);
                    return Err(error).with_context(|| {
                        format!("{:?} transaction that begins with: {first}", transaction.system)
                    });
                }
                Failure::Transient(error) if begun.elapsed() > PATIENCE => {
                    bail!("{:?} did not come back: {error:#}", transaction.system);
                }
                Failure::Transient(_) => {
                    unknown_outcome = true;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    fn hang_up(&mut self, system: System) {
        match system {
            System::Erp => self.erp = None,
            System::WmsUs => self.wms_us = None,
            System::WmsEu => self.wms_eu = None,
            System::Tms => self.tms = None,
        }
    }
}

async fn postgres(
    client: &mut Option<tokio_postgres::Client>,
    port: u16,
    database: &str,
    (user, password): (&str, &str),
    transaction: &Transaction,
) -> Result<(), Failure> {
    let classify = |error: tokio_postgres::Error| {
        let transient = error.code().is_none_or(|code| {
            ["08", "40", "53", "55", "57"].iter().any(|class| code.code().starts_with(class))
        });
        match error.code() {
            Some(code) if *code == SqlState::UNIQUE_VIOLATION => Failure::Exists(error.into()),
            _ if transient => Failure::Transient(error.into()),
            _ => Failure::Definite(error.into()),
        }
    };
    if client.is_none() {
        let (connected, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(port)
            .dbname(database)
            .user(user)
            .password(password)
            .application_name("demo workload")
            .connect_timeout(Duration::from_secs(5))
            .connect(tokio_postgres::NoTls)
            .await
            .map_err(classify)?;
        tokio::spawn(async move {
            // An error of the connection shows in the next statement.
            let _ = connection.await;
        });
        *client = Some(connected);
    }
    let Some(client) = client.as_ref() else { return Ok(()) };
    let script = format!("BEGIN; {}; COMMIT", transaction.statements.join("; "));
    client.batch_execute(&script).await.map_err(classify)
}

async fn mariadb(
    client: &mut Option<mysql_async::Conn>,
    port: u16,
    database: &str,
    (user, password): (&str, &str),
    transaction: &Transaction,
) -> Result<(), Failure> {
    let classify = |error: mysql_async::Error| match &error {
        mysql_async::Error::Server(server) if server.code == 1062 => Failure::Exists(error.into()),
        mysql_async::Error::Server(server) => match server.code {
            1020 | 1040 | 1053 | 1205 | 1213 | 1927 | 2006 | 2013 => {
                Failure::Transient(error.into())
            }
            _ => Failure::Definite(error.into()),
        },
        _ => Failure::Transient(error.into()),
    };
    if client.is_none() {
        let options = mysql_async::OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .prefer_socket(false)
            .tcp_port(port)
            .db_name(Some(database))
            .user(Some(user))
            .pass(Some(password));
        *client = Some(mysql_async::Conn::new(options).await.map_err(classify)?);
    }
    let Some(client) = client.as_mut() else { return Ok(()) };
    let script = format!("START TRANSACTION; {}; COMMIT", transaction.statements.join("; "));
    client.query_drop(script).await.map_err(classify)
}
