//! What a person gets wrong in the files or the databases is said in one clear message, with file
//! and line or database and remedy, and exit code 2, before anything is touched.

use std::fs;
use std::path::Path;

use crossdock_demo::systems::{Systems, TmsKind};
use crossdock_harness::free_port;
use crossdock_tests::Crossdock;

use crate::stage::{copy_demo_files, environment};

struct Mistake {
    file: &'static str,
    from: &'static str,
    to: &'static str,
    /// All of these must stand in the output.
    says: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        file: "mappings/erp.toml",
        from: "table = \"public.customers\"\nentity",
        to: "table = \"public.custmers\"\nentity",
        says: &["mappings/erp.toml:", "public.custmers", "public.customers"],
    },
    Mistake {
        file: "mappings/wms_eu.toml",
        from: "packed_at = \"confirmed_at\"",
        to: "packed_att = \"confirmed_at\"",
        says: &["mappings/wms_eu.toml:", "packed_att"],
    },
    Mistake {
        file: "mappings/wms_eu.toml",
        from: "packed_at = \"confirmed_at\"",
        to: "packed_at = \"confirmd_at\"",
        says: &["mappings/wms_eu.toml:", "confirmd_at"],
    },
    Mistake {
        file: "rules/10-ownership.toml",
        from: "[entity.product]\nowner = \"erp\"",
        to: "[entity.product]\nowner = [\"erp\", \"tms\"]",
        says: &["rules/10-ownership.toml:", "product", "two owners"],
    },
    Mistake {
        file: "rules/30-finance.toml",
        from: "'present(shipment.departed_at)'",
        to: "'present(shipment.departed_at'",
        says: &["rules/30-finance.toml:16:", "missing ')'"],
    },
];

#[test]
fn each_mistake_is_one_clear_message() {
    let systems = Systems::start(TmsKind::Mariadb).unwrap();
    let env = environment(&systems, Path::new("/nonexistent"), free_port().unwrap());
    for mistake in MISTAKES {
        let folder = tempfile::tempdir().unwrap();
        let config = copy_demo_files(folder.path());
        let file = folder.path().join(mistake.file);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(mistake.from), "{} has no {:?}", mistake.file, mistake.from);
        fs::write(&file, text.replacen(mistake.from, mistake.to, 1)).unwrap();
        let (code, said) = run(&config, &env, folder.path());
        assert_eq!(code, Some(2), "{said}");
        for part in mistake.says {
            assert!(said.contains(part), "{:?} is not in:\n{said}", part);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let config = copy_demo_files(folder.path());
    let mut wrong = env.clone();
    for (name, value) in &mut wrong {
        if name == "WMS_US_PASSWORD" {
            *value = "not-the-password".to_string();
        }
    }
    let (code, said) = run(&config, &wrong, folder.path());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("wms_us") && said.contains("password"), "{said}");
    assert!(!said.contains("not-the-password"), "{said}");
    untouched(&systems);
}

fn run(config: &Path, env: &[(String, String)], folder: &Path) -> (Option<i32>, String) {
    let crossdock = Crossdock::new(config, env, 0, folder);
    let output = crossdock.run(&["run"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said + &String::from_utf8_lossy(&output.stdout))
}

fn untouched(systems: &Systems) {
    for (server, database) in [(&systems.erp, "erp"), (&systems.wms_us, "wms_us")] {
        let slots = server.sql(database, "SELECT count(*) FROM pg_replication_slots").unwrap();
        assert_eq!(slots, "0");
        let publications = server.sql(database, "SELECT count(*) FROM pg_publication").unwrap();
        assert_eq!(publications, "0");
    }
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'crossdock'";
    assert_eq!(systems.store.sql("canonical", schemas).unwrap(), "0");
}
