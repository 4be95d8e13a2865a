//! Connections and servers that fail at random places under load: every committed change is there
//! exactly once and in order, if reading goes on from the last place that was durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::proxy::{Fault, Plan, Proxy};
use super::*;

const SCRIPT: &str = "CREATE TABLE counter(id int PRIMARY KEY, n int NOT NULL);
     INSERT INTO counter VALUES (1, 0);
     CREATE TABLE item(n int, i int, note text, PRIMARY KEY (n, i));";
const TABLES: [&str; 2] = ["public.counter", "public.item"];

/// Items that come with a count: some transactions are large enough to be sent in progress.
fn items(n: i64) -> i64 {
    match n % 10 {
        7 => 3_000,
        3 => 40,
        _ => 1,
    }
}

/// Counts on by one and adds items, half of which are rolled back at first.
fn transaction(n: i64) -> String {
    let insert = format!(
        "INSERT INTO item SELECT {n}, i, repeat('x', 50) FROM generate_series(1, {}) i;",
        items(n)
    );
    format!(
        "BEGIN; SAVEPOINT a; {insert} ROLLBACK TO a; {insert}
         UPDATE counter SET n = n + 1; COMMIT;"
    )
}

/// Counts until it is told to stop, whatever happens to the server; returns the last count.
async fn count(port: u16, database: String, stop: Arc<AtomicBool>) -> i64 {
    let text = format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
    loop {
        let Ok((client, connection)) = tokio_postgres::connect(&text, NoTls).await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(connection);
        // Whether the last transaction was committed before the server went is in the table.
        let Ok(row) = client.query_one("SELECT n FROM counter", &[]).await else { continue };
        let mut n = i64::from(row.get::<_, i32>(0));
        loop {
            if stop.load(Ordering::Relaxed) {
                match try_to_say_done(&client).await {
                    Ok(()) => return n,
                    Err(_) => break,
                }
            }
            if client.batch_execute(&transaction(n + 1)).await.is_err() {
                break;
            }
            n += 1;
        }
    }
}

/// What a journal would hold: blocks count once they are durable, and a transaction once it is
/// whole. What came after the last durable boundary is forgotten with the connection.
struct Durable {
    database: String,
    position: Position,
    waiting: Vec<Block>,
    counts: Vec<i64>,
    items: i64,
    done: bool,
}

impl Durable {
    fn new(database: &str, position: Position) -> Self {
        let database = database.to_string();
        Self { database, position, waiting: Vec::new(), counts: Vec::new(), items: 0, done: false }
    }

    /// Makes what is waiting durable.
    fn sync(&mut self) {
        for block in self.waiting.drain(..) {
            self.position = block.end.clone();
            self.done |= is_done(&self.database, &block);
            for event in fragments(&block).into_iter().flat_map(|fragment| fragment.events) {
                let Some(table) = &event.table else { continue };
                if &*table.name.table == "item" {
                    self.items += 1;
                    continue;
                }
                let Value::Int(n) = full(&event.after)[1] else { panic!("no count") };
                assert_eq!(self.items, items(n), "items with count {n}");
                self.items = 0;
                self.counts.push(n);
            }
        }
    }
}

/// Reads until `done`, making durable and acknowledging at random.
async fn read(
    options: &SourceOptions,
    start: Position,
    enough: impl Fn(usize),
    seed: u64,
) -> Vec<i64> {
    let mut random = StdRng::seed_from_u64(seed);
    // Before 14, only a block without changes says that all is read: it comes when nothing waits.
    let prompt = !is_talkative();
    let mut durable = Durable::new(&options.database, start);
    let started = std::time::Instant::now();
    while !durable.done {
        assert!(started.elapsed() < 4 * LIMIT, "reading never ends");
        let mut reader = match postgres::open(
            options,
            Start::After(durable.position.clone()),
            Memory::default(),
        )
        .await
        {
            Ok(reader) => reader,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        loop {
            let block = match next(&mut reader).await {
                Ok(block) => block,
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    durable.waiting.clear();
                    break;
                }
            };
            let boundary = block.boundary;
            // Nothing may follow the last block.
            let last = is_done(&options.database, &block);
            durable.waiting.push(block);
            if boundary && (last || prompt || random.random_bool(0.7)) {
                durable.sync();
                enough(durable.counts.len());
                if durable.done {
                    break;
                }
                if prompt || random.random_bool(0.5) {
                    reader.acknowledge(&durable.position);
                }
            }
        }
    }
    durable.counts
}

async fn prepare(port: u16, name: &str) -> (SourceOptions, Position) {
    let (options, client) = database_on(port, name, SCRIPT, &TABLES).await;
    let settings = format!(
        "ALTER DATABASE {name} SET logical_decoding_work_mem = '64kB';
         ALTER DATABASE {name} SET wal_sender_timeout = '2s';"
    );
    client.batch_execute(&settings).await.unwrap();
    let mut reader = open(&options, None).await;
    let position = snapshot(&mut reader).await.pop().unwrap().end;
    (options, position)
}

/// How often a test breaks things: `default`, or `CAPTURE_FAULTS` of the environment.
fn faults(default: u64) -> u64 {
    std::env::var("CAPTURE_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Counts through a failing network, until it has failed often enough.
async fn through_a_failing_network(name: &str, plan: Plan) {
    let (mut options, position) = prepare(server().port(), name).await;
    let wanted = plan.faults_max;
    let seed = plan.seed;
    let proxy = Proxy::start(options.port, plan).await;
    let stop = Arc::new(AtomicBool::new(false));
    let counting = tokio::spawn(count(options.port, name.to_string(), stop.clone()));
    options.port = proxy.port;
    let enough = |_| {
        if proxy.faults() >= wanted {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let counts = read(&options, position, enough, seed).await;
    let last = counting.await.unwrap();
    assert_eq!(counts, (1..=last).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_and_double_nothing() {
    let seed = rand::random();
    eprintln!("seed {seed}");
    let plan = Plan { fault: Fault::Cut, after: 100..400_000, faults_max: faults(12), seed };
    through_a_failing_network("cut", plan).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_lose_and_double_nothing() {
    let seed = rand::random();
    eprintln!("seed {seed}");
    // Far enough into the stream: before it, an answer may take long and is waited for.
    let plan = Plan { fault: Fault::Silence, after: 40_000..400_000, faults_max: faults(1), seed };
    through_a_failing_network("silent", plan).await;
}

/// Processes that a process has started.
fn children(parent: i32) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

fn runs(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// State and parent of a process.
fn stat(pid: i32) -> Option<(String, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(") ").next()?.split(' ');
    Some((fields.next()?.to_string(), fields.next()?.parse().ok()?))
}

/// Counts while `kill` brings the server down, each time after more was read.
async fn through_kills(name: &str, times: u64, kill: impl Fn(&mut Postgres) -> Vec<i32>) {
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut server = Postgres::start().expect("a private server starts");
    let (options, position) = prepare(server.port(), name).await;
    let stop = Arc::new(AtomicBool::new(false));
    let counting = tokio::spawn(count(options.port, name.to_string(), stop.clone()));
    let (read_so_far, mut progress) = tokio::sync::watch::channel(0);
    let reading = tokio::spawn(async move {
        let enough = |counts| {
            read_so_far.send_replace(counts);
        };
        read(&options, position, enough, seed).await
    });
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..times {
        // Each time it has to come further than before.
        let goal = *progress.borrow() + random.random_range(1..40);
        tokio::time::timeout(2 * LIMIT, progress.wait_for(|counts| *counts >= goal))
            .await
            .expect("counting goes on")
            .expect("reading goes on");
        let gone = kill(&mut server);
        // They notice by themselves; until then the server would not start again.
        let killed = std::time::Instant::now();
        while gone.iter().any(|pid| runs(*pid)) {
            assert!(killed.elapsed() < LIMIT, "a process of the killed server stays");
            tokio::task::yield_now().await;
        }
        server.start_again().expect("the server starts again");
    }
    stop.store(true, Ordering::Relaxed);
    let counts = reading.await.unwrap();
    let last = counting.await.unwrap();
    assert_eq!(counts, (1..=last).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_and_doubles_nothing() {
    through_kills("killed", faults(3), |server| {
        let children = children(server.pid());
        server.kill();
        children
    })
    .await;
}

/// The server ends all its other sessions then, and recovers by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_walsender_loses_and_doubles_nothing() {
    through_kills("killed_sender", faults(3), |server| vec![kill_walsender(server)]).await;
}

/// Kills the process that sends the log, once there is one; returns its number.
fn kill_walsender(server: &Postgres) -> i32 {
    let sql = "SELECT active_pid FROM pg_replication_slots WHERE active";
    let started = std::time::Instant::now();
    loop {
        assert!(started.elapsed() < LIMIT, "nobody sends the log");
        // None while the reader connects again, or while the server recovers.
        let found = server.sql("postgres", sql).ok().and_then(|text| text.trim().parse().ok());
        let Some(pid) = found else { continue };
        let killed = std::process::Command::new("kill").args(["-9", &format!("{pid}")]).status();
        if killed.is_ok_and(|status| status.success()) {
            return pid;
        }
    }
}
