//! `crossdock run`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use crossdock_config::{Config, SourceConfig};
use crossdock_model::database::Severity;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::board::{Board, SourceBoard, TargetBoard};
use crate::in_force::{InForce, at_start};
use crate::metrics::Metrics;
use crate::operator::{Captured, Operator, ReloadRequest, Reloading};
use crate::stage::{
    Breaker, DeliverStage, Guards, IngestRun, IngestStage, IntegrateStage, MirrorStage, StageError,
    Upkeep,
};
use crate::supervisor::{Handle, handle, supervise};
use crate::{control, http, observe, preflight, registry, wiring};

/// Runs until a signal or an error that nothing but a restart can mend.
pub async fn run(path: &Path) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let looked = preflight::look(&config).await;
    preflight::print(&looked, Severity::Warning);
    if preflight::count(&looked, Severity::Error) > 0 {
        eprintln!("not started: `crossdock check` shows everything; nothing was touched");
        return ExitCode::from(2);
    }
    match serve(path, &config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error),
    }
}

async fn serve(path: &Path, config: &Config) -> anyhow::Result<()> {
    let state = wiring::open_state(config)?;
    let metrics = Arc::new(Metrics::new()?);
    config.sources.iter().for_each(|s| metrics.source_region(&s.name, &s.region));
    config.targets.iter().for_each(|t| metrics.target_region(&t.name, &t.region));
    let board = board(config);
    let mut stages = JoinSet::new();
    let sources = wiring::captured(config);
    let switch = at_start(config);
    let rules = switch.subscribe();
    let handles = start_stages(config, &state, &metrics, &board, &sources, rules, &mut stages);
    let mut looks = JoinSet::new();
    start_looking(config, &state, &metrics, &board, &mut looks);

    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen on {}", config.listen))?;
    info!("http://{}/status and /metrics", config.listen);
    let schemas = registry::router(registry::Access {
        registry: registry::Registry::new(wiring::connect_options(&config.store)),
        password: config.registry_password.clone(),
        rules: switch.subscribe(),
    });
    let pages = http::router(http::Pages { board: board.clone(), metrics }, schemas);
    looks.spawn(async move {
        let _ = axum::serve(listener, pages).await;
    });
    let mut operator = wiring::operator(config, &state, sources, handles, Some(board.clone()));
    operator.reloading =
        Some(Reloading { path: path.to_path_buf(), running: config.clone(), switch });
    let operator = Arc::new(operator);
    let hangups = reload_on_hangup(operator.clone())?;
    let socket = wiring::control_socket(config);
    let control = control::serve(&socket, operator, board);

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = stages.join_next() => match ended {
            Some(Ok(error)) => Err(anyhow::Error::new(error)),
            Some(Err(panic)) => Err(anyhow::Error::new(panic).context("a stage panicked")),
            None => Ok(()),
        },
        ended = control => ended,
        () = hangups => Ok(()),
        _ = tokio::signal::ctrl_c() => {
            info!("stopping: interrupted");
            Ok(())
        }
        _ = terminate.recv() => {
            info!("stopping: terminated");
            Ok(())
        }
    }
    // Stages are dropped where they wait; whatever they were doing is committed or not, and the
    // next start asks how far each had come.
}

/// Reads the rule files again whenever a signal asks for it. What is wrong with them is logged and
/// shown by `crossdock status`.
fn reload_on_hangup(operator: Arc<Operator>) -> anyhow::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            let request = ReloadRequest { by: "SIGHUP".to_string() };
            // A refusal has been logged, with all that is to be mended.
            let _ = operator.reload(&request).await;
        }
        std::future::pending().await
    })
}

fn board(config: &Config) -> Arc<Board> {
    let source = |source: &SourceConfig| {
        let (name, polled) = (source.name.to_string(), source.is_polled());
        Arc::new(SourceBoard { name, polled, ..SourceBoard::default() })
    };
    let target =
        |name: &str| Arc::new(TargetBoard { name: name.to_string(), ..TargetBoard::default() });
    let mirrors = config.mirrors.iter().map(|m| target(&m.name));
    Arc::new(Board {
        name: config.name.to_string(),
        sources: config.sources.iter().map(source).collect(),
        targets: config.targets.iter().map(|t| target(&t.name)).chain(mirrors).collect(),
        ..Board::default()
    })
}

fn start_stages(
    config: &Config,
    state: &wiring::State,
    metrics: &Arc<Metrics>,
    board: &Arc<Board>,
    sources: &BTreeMap<String, Captured>,
    in_force: watch::Receiver<InForce>,
    stages: &mut JoinSet<StageError>,
) -> BTreeMap<String, Handle> {
    let mut handles = BTreeMap::new();
    let (committed, news) = watch::channel(0);
    start_sources(config, state, metrics, board, sources, stages, &mut handles);
    let stage = IntegrateStage {
        name: config.name.to_string(),
        store: wiring::connect_options(&config.store),
        rules: config.rules.clone(),
        in_force: in_force.clone(),
        journals: state.journals.clone(),
        checkpoints: state.checkpoints.clone(),
        board: board.clone(),
        metrics: metrics.clone(),
        committed,
        upkeep: Upkeep::new(config.history_retain),
        checkpointed: None,
        next_due: None,
        guards: Guards::default(),
    };
    let (integrate, jobs) = handle();
    handles.insert("integrate".to_string(), integrate);
    let status = board.clone();
    stages
        .spawn(async move { supervise("integrate".into(), stage, &status.integrate, jobs).await });
    start_targets(config, state, metrics, board, (news, in_force), stages, &mut handles);
    handles
}

fn start_sources(
    config: &Config,
    state: &wiring::State,
    metrics: &Arc<Metrics>,
    board: &Arc<Board>,
    sources: &BTreeMap<String, Captured>,
    stages: &mut JoinSet<StageError>,
    handles: &mut BTreeMap<String, Handle>,
) {
    for source in &config.sources {
        let name = &source.name;
        let (Some(journal), Some(status)) = (state.journals.get(name), board.source(name)) else {
            continue;
        };
        let Some(captured) = sources.get(name) else { continue };
        let stage = IngestStage {
            options: captured.options.clone(),
            tables: captured.tables.clone(),
            mode: captured.mode,
            on_gap: source.on_gap,
            journal: journal.clone(),
            checkpoints: state.checkpoints.clone(),
            board: status.clone(),
            metrics: metrics.clone(),
            run: IngestRun::default(),
        };
        let (ingest, jobs) = handle();
        handles.insert(format!("ingest/{name}"), ingest);
        let (status, name) = (status.clone(), format!("ingest {name}"));
        stages.spawn(async move { supervise(name, stage, &status.stage, jobs).await });
    }
}

fn start_targets(
    config: &Config,
    state: &wiring::State,
    metrics: &Arc<Metrics>,
    board: &Arc<Board>,
    (news, in_force): (watch::Receiver<u64>, watch::Receiver<InForce>),
    stages: &mut JoinSet<StageError>,
    handles: &mut BTreeMap<String, Handle>,
) {
    let on_board = |name: &str| board.targets.iter().find(|t| t.name == name).cloned();
    for target in &config.targets {
        let Some(status) = on_board(&target.name) else { continue };
        let stage = DeliverStage {
            name: config.name.to_string(),
            target: wiring::target_options(config, target),
            batch_rows: target.batch_rows,
            workers: target.workers,
            exceptions_max: target.exceptions_max,
            reverts_max: target.reverts_max,
            reverts_within: target.reverts_within,
            store: wiring::connect_options(&config.store),
            checkpoints: state.checkpoints.clone(),
            board: status.clone(),
            metrics: metrics.clone(),
            committed: news.clone(),
            rules: config.rules.clone(),
            in_force: in_force.clone(),
            breaker: Breaker::default(),
        };
        let (deliver, jobs) = handle();
        handles.insert(format!("target/{}", target.name), deliver);
        let name = format!("deliver {}", target.name);
        stages.spawn(async move { supervise(name, stage, &status.stage, jobs).await });
    }
    for mirror in &config.mirrors {
        let target = config.targets.iter().find(|t| t.name == mirror.target);
        let target = target.and_then(|t| t.database());
        let (Some(status), Some(target)) = (on_board(&mirror.name), target) else { continue };
        let stage = MirrorStage {
            mirror: mirror.name.to_string(),
            name: config.name.to_string(),
            source: mirror.source.as_str().into(),
            tables: mirror.tables.clone(),
            target: wiring::connect_options(target),
            journals: state.journals.clone(),
            checkpoints: state.checkpoints.clone(),
            board: status.clone(),
            metrics: metrics.clone(),
            unfinished: false,
        };
        let (_, jobs) = handle();
        let name = format!("mirror {}", mirror.name);
        stages.spawn(async move { supervise(name, stage, &status.stage, jobs).await });
    }
}

fn start_looking(
    config: &Config,
    state: &wiring::State,
    metrics: &Arc<Metrics>,
    board: &Arc<Board>,
    looks: &mut JoinSet<()>,
) {
    for options in wiring::source_options(config) {
        if let Some(source) = board.source(&options.name) {
            looks.spawn(observe::source(options, source.clone()));
        }
    }
    let consumers = wiring::consumers(config);
    looks.spawn(observe::store(
        wiring::connect_options(&config.store),
        board.clone(),
        state.journals.clone(),
        metrics.clone(),
        consumers,
    ));
}
