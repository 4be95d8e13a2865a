//! Whatever a file holds, reading it ends with a config or with problems that have a place.

use proptest::prelude::*;

use crate::world::{HEAD, SOURCE, World};

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn bytes(content in proptest::collection::vec(any::<u8>(), 0..400)) {
        let world = World::new("");
        world.file("crossdock.toml", &content);
        check(&world)?;
    }

    /// Near misses go deeper than noise does.
    #[test]
    fn damaged_configs(
        at in 0_usize..400,
        cut in 0_usize..30,
        insert in "[a-z0-9\\[\\]{}\"'=.,$ \n_é-]{0,12}",
    ) {
        let mut text: Vec<char> = format!(
            "{HEAD}{SOURCE}[target.erp]\nsource = \"erp\"\n[target.copy]\nkind = \"mysql\"\n\
             host = \"${{NOBODY:-db}}\"\ndatabase = \"d\"\nuser = \"u\"\n[mirror.m]\n\
             source = \"erp\"\ntarget = \"copy\"\ntables = [\"a.b\"]\n"
        ).chars().collect();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, insert.chars());
        check(&World::new(&text.into_iter().collect::<String>()))?;
    }
}

fn check(world: &World) -> Result<(), TestCaseError> {
    if let Err(errors) = world.load() {
        let shown = errors.to_string();
        prop_assert!(!errors.problems().is_empty());
        prop_assert!(!shown.contains("s3cret"), "{}", shown);
        prop_assert!(!shown.contains("is incomplete"), "{}", shown);
    }
    Ok(())
}
