//! Parcels and their depots in one source, for suites about what targets are told of them.

/// The source's tables.
pub const TABLE: &str = "CREATE TABLE parcels (no int PRIMARY KEY, weight numeric, depot int);
                     CREATE TABLE depots (no int PRIMARY KEY, name text);
                     CREATE PUBLICATION crossdock FOR TABLE parcels, depots;
                     GRANT SELECT ON parcels, depots TO crossdock;";
/// Entity file.
pub const ENTITIES: &str = "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n[entity.parcel.fields]\n\
     no = \"integer\"\nweight = \"decimal\"\ndepot = \"integer\"\n\n\
     [entity.depot]\nprefix = \"dep\"\nkey = [\"no\"]\n[entity.depot.fields]\n\
     no = \"integer\"\nname = \"text\"\n";
/// Mapping file.
pub const MAPPING: &str = "source = \"shop\"\n\n[[table]]\ntable = \"public.parcels\"\nentity = \"parcel\"\n\n\
     [table.fields]\nno = \"no\"\nweight = \"weight\"\ndepot = \"depot\"\n\n\
     [[table]]\ntable = \"public.depots\"\nentity = \"depot\"\n\n\
     [table.fields]\nno = \"no\"\nname = \"name\"\n";
/// Rule file: the target `copy` is told of parcels and depots.
pub const RULES: &str = "[entity.parcel]\nowner = \"shop\"\n[entity.depot]\nowner = \"shop\"\n\n\
     [[subscribe]]\nname = \"parcels\"\nentity = \"parcel\"\nfields = [\"weight\", \"depot\"]\n\
     target = \"copy\"\ntable = \"public.parcels\"\nwrite = \"upsert\"\nkey = { no = 'rec.no' }\n\
     columns = { weight = 'rec.weight', depot = 'rec.depot' }\n\n\
     [[subscribe]]\nname = \"depots\"\nentity = \"depot\"\nfields = [\"name\"]\n\
     target = \"copy\"\ntable = \"public.depots\"\nwrite = \"upsert\"\nkey = { no = 'rec.no' }\n\
     columns = { name = 'rec.name' }\n";
