//! The shipped grants suffice for capture, and the mapping files speak of tables and columns that
//! the shipped schemas have.

use crossdock_capture::{DatabaseKind, Severity, SourceOptions, Tls, check, describe};
use crossdock_demo::systems::{Systems, Tms, TmsKind};

use crate::files::config;

const BLOCK_BYTES_MAX: usize = 256 << 10;

/// How each source is captured.
pub(crate) fn sources(systems: &Systems) -> Vec<SourceOptions> {
    let rules = config().rules;
    let environment = systems.environment();
    let tms = match systems.tms {
        Tms::Mariadb(_) => DatabaseKind::Mariadb,
        Tms::Mysql(_) => DatabaseKind::Mysql,
    };
    [
        ("erp", "ERP", DatabaseKind::Postgres, "erp"),
        ("wms_us", "WMS_US", DatabaseKind::Postgres, "wms_us"),
        ("wms_eu", "WMS_EU", DatabaseKind::Mariadb, "wms"),
        ("tms", "TMS", tms, "tms"),
    ]
    .into_iter()
    .map(|(name, variable, kind, database)| SourceOptions {
        name: name.to_owned(),
        kind,
        host: "127.0.0.1".to_owned(),
        port: environment[&format!("{variable}_PORT")].parse().unwrap(),
        user: "crossdock".to_owned(),
        password: environment[&format!("{variable}_PASSWORD")].clone().into(),
        database: database.to_owned(),
        tls: Tls::Disable,
        tables: rules.tables(name),
        slot: format!("crossdock_demo_{name}"),
        slot_failover: true,
        publication: format!("crossdock_demo_{name}"),
        server_id: 7101,
        zero_dates: Default::default(),
        block_bytes_max: BLOCK_BYTES_MAX,
        spill_dir: None,
        snapshot: Default::default(),
        poll: None,
    })
    .collect()
}

#[test]
fn grants_and_schemas_fit_the_files() {
    let systems = Systems::start(TmsKind::Mariadb).expect("servers start");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let rules = config().rules;
    let mut problems = Vec::new();
    for options in sources(&systems) {
        let findings = runtime.block_on(check(&options)).expect("check runs");
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
        problems.extend(errors.map(|f| format!("{}: {}: {}", options.name, f.what, f.remedy)));
        let schemas = runtime.block_on(describe(&options)).expect("describe runs");
        let found = rules.verify(&options.name, &schemas);
        problems.extend(found.iter().map(|p| format!("{}: {p}", options.name)));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
