//! Files as a target: what is old enough is closed, whether or not something more comes.

use crossdock_harness::{parquet_rows, wait_until};

use crate::parcels::{ENTITIES, MAPPING, TABLE};
use crate::world::{LIMIT, World};

const RULES: &str = "[entity.parcel]\nowner = \"shop\"\n[entity.depot]\nowner = \"shop\"\n\n\
     [[subscribe]]\nname = \"weights\"\nentity = \"parcel\"\nfields = [\"weight\"]\n\
     target = \"lake\"\ntable = \"public.inbox\"\nwrite = \"insert\"\n\
     key = { event_id = 'event_id' }\ncolumns = { no = 'rec.no', weight = 'rec.weight' }\n";

#[test]
fn a_file_is_closed_in_time_although_nothing_more_comes() {
    let mut world = World::new(TABLE, "publication = \"crossdock\"");
    world.file("entities/all.toml", ENTITIES);
    world.file("mappings/shop.toml", MAPPING);
    world.file("rules/all.toml", RULES);
    world.append(
        "\n[target.lake]\nkind = \"file\"\nfolder = \"lake\"\nformat = \"parquet\"\n\
         rotate_every = \"1s\"\n",
    );
    world.start();
    let folder = world.config().with_file_name("lake");
    for rows in 1..=2 {
        world.sql(&format!("INSERT INTO parcels VALUES ({rows}, 7)"));
        let closed = || parquet_rows(&folder).is_ok_and(|found| found.len() == rows);
        assert!(wait_until(LIMIT, closed), "{}", world.crossdock.log_tail());
    }
}
