//! docs/capture-postgres.md names tests that are there.

use std::fs;
use std::path::Path;

#[test]
fn every_test_that_the_documentation_names_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(here.join("../docs/capture-postgres.md")).unwrap();
    let (_, table) = page.split_once("## Which tests show it").expect("the section");
    let mut named = 0;
    for word in table.split('`').skip(1).step_by(2) {
        let Some((module, test)) = word.split_once("::").filter(|_| !word.contains(' ')) else {
            continue;
        };
        named += 1;
        let file = here.join("tests/postgres").join(module).with_extension("rs");
        let source = fs::read_to_string(&file).unwrap_or_else(|_| panic!("no {}", file.display()));
        assert!(source.contains(&format!("fn {test}(")), "{word} is not in {}", file.display());
    }
    assert!(named > 30, "{named} tests are named");
}
