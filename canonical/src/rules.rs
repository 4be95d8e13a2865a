//! All mapping and rule files together, checked and compiled.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_model::canonical::{Name, RowKey};
use crossdock_model::problem::SourceText;
use crossdock_model::{Named, Problem, TableName, TableSchema};
use crossdock_schema_registry::{Entities, FieldType};
use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::DeTable;

use crate::coded::{self, CodedColumn};
use crate::codes::{self, Codes};
use crate::deliver::{Telling, TellingReader};
use crate::document::{File, Section};
use crate::evidence::{self, Evidences, Normalise};
use crate::guard::RateGuard;
use crate::lanes::{Lane, Lanes, Maintenance};
use crate::lifecycle::{self, Lifecycles};
use crate::links::{self, OwnerLinks};
use crate::lookups::{self, LookedUp, Used};
use crate::mapping::{Mapping, Mappings, Reader};
use crate::names::{Links, linked_entities, links_of};
use crate::ownership::{Ownership, OwnershipReader};
use crate::plan::{self, Plans};
use crate::problems::Report;
use crate::quarantine::{self, Quarantines};
use crate::ruleset::{self, Ruleset, Rulesets};
use crate::trial::{self, Trial};
use crate::upcast::{self, Casts, Olders};
use crate::writing::{self, Inboxes, TargetWrite, Writing};
use crate::{check, deadline, verify};

/// Stack of the thread that compiles expressions: the parser recurses deeply.
const COMPILE_STACK_BYTES: usize = 32 << 20;

/// Names that the configuration defines and that rules may use.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Sources.
    pub sources: &'a [Name],
    /// Targets.
    pub targets: &'a [Name],
}

/// The compiled rules: immutable, to be shared by `Arc`.
#[derive(Debug)]
pub struct Rules {
    hash: String,
    pub(crate) entities: Entities,
    pub(crate) mappings: Mappings,
    pub(crate) evidence: Evidences,
    pub(crate) ownership: Ownership,
    pub(crate) lifecycles: Lifecycles,
    pub(crate) telling: Telling,
    pub(crate) links: Named<Links>,
    pub(crate) targets: Vec<Name>,
    /// What lookups read, by source and table.
    pub(crate) looked_up: LookedUp,
    /// Entities whose computed fields read lists of an entity: child to parents.
    pub(crate) parents: Named<BTreeSet<Name>>,
    /// Fields that are computed, by entity.
    pub(crate) computed: Named<BTreeSet<Name>>,
    /// Entities whose records release rules of others depend on.
    pub(crate) released_by_links: BTreeSet<Name>,
    /// What is not believed, by entity.
    pub(crate) quarantines: Quarantines,
    /// What stops a stream.
    pub(crate) guards: Vec<RateGuard>,
    /// Columns that were called otherwise or were others.
    pub(crate) olders: Olders,
    /// The same of fields.
    pub(crate) casts: Casts,
    /// Links that ownership rules read, by entity.
    pub(crate) owner_links: OwnerLinks,
    /// Entities whose owners depend on records of an entity, by that entity.
    pub(crate) followers: Named<BTreeSet<Name>>,
    /// Entities whose records have deadlines.
    pub(crate) timed: BTreeSet<Name>,
    /// The `[[test]]` blocks.
    pub(crate) trials: Vec<Trial>,
    lanes: Lanes,
    rulesets: Rulesets,
    /// Links of each entity that subscriptions and release rules read.
    pub(crate) read_links: Named<BTreeSet<Name>>,
    /// How the records of each entity are computed.
    pub(crate) plans: Plans,
}

/// What is said about the rows of one table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TableRules<'r> {
    /// How they become records.
    pub mappings: &'r [Mapping],
    /// What they are evidence of.
    pub evidence: &'r [Normalise],
    /// What others read of them.
    pub used: Option<&'r Used>,
}

impl TableRules<'_> {
    /// Whether anything is said about them.
    pub fn matter(&self) -> bool {
        !self.mappings.is_empty() || self.used.is_some()
    }
}

impl Rules {
    /// What is said about the rows of a table.
    pub(crate) fn of_table(&self, source: &Name, table: &Name) -> TableRules<'_> {
        let key = (source.clone(), table.clone());
        TableRules {
            mappings: self.mappings.get(&key).map_or(&[], Vec::as_slice),
            evidence: self.evidence.get(&key).map_or(&[], Vec::as_slice),
            used: self.looked_up.get(&key),
        }
    }

    /// Whether a key is not that of a row, but one by which rows are found besides.
    pub(crate) fn is_alias(&self, key: &RowKey) -> bool {
        let mut of_source = self.looked_up.iter().filter(|((source, _), _)| *source == key.source);
        of_source.any(|(_, used)| used.aliases.iter().any(|alias| alias.held == key.table))
    }

    /// Reads and compiles all files.
    ///
    /// # Errors
    /// Every problem of every file at once, sorted by file and line; nothing is half loaded.
    pub fn load(
        entities: Entities,
        mappings: &[SourceText],
        rules: &[SourceText],
        known: &Known<'_>,
    ) -> Result<Rules, Vec<Problem>> {
        let compile = || Loader::default().load(entities, mappings, rules, known);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("compile-rules".into())
                .stack_size(COMPILE_STACK_BYTES)
                .spawn_scoped(scope, compile);
            let failed = |what: &str| {
                Err(vec![Problem {
                    file: "rules".into(),
                    line: 0,
                    what: what.into(),
                    remedy: "start again; if it stays, look for an unusual expression".into(),
                }])
            };
            match thread.map(|t| t.join()) {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => failed("the rules could not be compiled"),
                Err(_) => failed("there is no memory for compiling the rules"),
            }
        })
    }

    /// Hash of the content of all files, short hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Entities that the rules speak of.
    pub fn entities(&self) -> &Entities {
        &self.entities
    }

    /// Tables that a mapping, lookup or evidence rule of a source needs, sorted.
    pub fn tables(&self, source: &str) -> Vec<TableName> {
        let mapped = self.mappings.keys().chain(self.looked_up.keys());
        let names: BTreeSet<TableName> = mapped
            .filter(|(s, _)| &**s == source)
            .filter_map(|(_, table)| TableName::parse(table))
            .collect();
        names.into_iter().collect()
    }

    /// Tables and columns that files name and that the database does not have, and lookups that
    /// cannot find a row by one value.
    pub fn verify(&self, source: &str, schemas: &[TableSchema]) -> Vec<Problem> {
        verify::verify(self, source, schemas)
    }

    /// Every place where files read one of some columns of a source's table: what a change of
    /// these columns hits.
    pub fn uses(&self, source: &str, table: &TableSchema, columns: &[Name]) -> Vec<Problem> {
        verify::uses(self, source, table, columns)
    }

    /// Columns of a source whose values must stand in a code table.
    pub fn coded_columns(&self, source: &str) -> Vec<CodedColumn> {
        coded::coded_columns(self, source)
    }

    /// How subscriptions and releases write into the tables of targets.
    pub fn writes(&self) -> Vec<TargetWrite> {
        let subscriptions = self.telling.subscriptions.values().flatten().map(|s| &s.write);
        let releases = self.telling.releases.values().flatten().map(|r| &r.write);
        subscriptions.chain(releases).map(Writing::target_write).collect()
    }

    /// Columns of a target into which fields are written as they are, with their types; a column
    /// that two rules fill with different types is left out.
    pub fn column_kinds(&self, target: &str) -> BTreeMap<Name, FieldType> {
        writing::column_kinds(self, target)
    }

    /// The rule files, by name.
    pub fn rulesets(&self) -> impl Iterator<Item = &Ruleset> {
        self.rulesets.all()
    }

    /// Lanes in which deliveries wait, in file order; without any, all wait together.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes.lanes
    }

    /// The lane of what a subscription or release (by its name) owes: the one that it names, the
    /// one that names its kind, or the default. Reverts go in the default.
    /// `None` without lanes.
    pub fn lane_of(&self, rule: &str) -> Option<&Lane> {
        let subscriptions = self.telling.subscriptions.values().flatten();
        let mut kinds = subscriptions.filter(|s| &*s.name == rule).map(|s| &s.kind);
        let releases = self.telling.releases.values().flatten();
        let of_release = || releases.into_iter().find(|r| &*r.name == rule).map(|r| &r.kind);
        let kind = kinds.next().or_else(of_release);
        match kind {
            Some(kind) => self.lanes.of(kind),
            None => self.lanes.lanes.iter().find(|l| l.default),
        }
    }

    /// Names of the subscriptions and releases that write into a target.
    pub fn rules_of(&self, target: &str) -> Vec<Name> {
        let subscriptions = self.telling.subscriptions.values().flatten();
        let subscriptions = subscriptions.map(|s| (&s.write, &s.name));
        let releases = self.telling.releases.values().flatten().map(|r| (&r.write, &r.name));
        let all = subscriptions.chain(releases);
        all.filter(|(write, _)| *write.target == *target).map(|(_, name)| name.clone()).collect()
    }

    /// Windows in which a target is left alone.
    pub fn maintenance(&self, target: &str) -> impl Iterator<Item = &Maintenance> {
        self.lanes.maintenance.iter().filter(move |m| *m.target == *target)
    }

    /// Tables that subscriptions and releases write, each once with its target.
    pub fn targets_of(&self) -> Vec<(Name, TableName)> {
        let subscriptions = self.telling.subscriptions.values().flatten().map(|s| &s.write);
        let releases = self.telling.releases.values().flatten().map(|r| &r.write);
        let all: BTreeSet<(Name, TableName)> =
            subscriptions.chain(releases).map(|w| (w.target.clone(), w.table.clone())).collect();
        all.into_iter().collect()
    }
}

#[derive(Default)]
struct Loader {
    report: Report,
}

impl Loader {
    fn load(
        self,
        entities: Entities,
        mapping_texts: &[SourceText],
        rule_texts: &[SourceText],
        known: &Known<'_>,
    ) -> Result<Rules, Vec<Problem>> {
        let mut rules = Rules {
            hash: hash(&entities, mapping_texts, rule_texts),
            entities,
            mappings: Mappings::new(),
            evidence: Evidences::new(),
            ownership: Ownership::new(),
            lifecycles: Lifecycles::new(),
            telling: Telling::default(),
            links: Named::new(),
            targets: known.targets.to_vec(),
            looked_up: LookedUp::new(),
            parents: Named::new(),
            computed: Named::new(),
            released_by_links: BTreeSet::new(),
            quarantines: Quarantines::new(),
            guards: Vec::new(),
            olders: Olders::default(),
            casts: Casts::new(),
            owner_links: OwnerLinks::new(),
            followers: Named::new(),
            timed: BTreeSet::new(),
            trials: Vec::new(),
            lanes: Lanes::default(),
            rulesets: Rulesets::default(),
            read_links: Named::new(),
            plans: Plans::default(),
        };
        let report = &self.report;
        let mut rule_texts: Vec<&SourceText> = rule_texts.iter().collect();
        ruleset::overlays_last(&mut rule_texts, |text| &text.file);
        let mapping_files: Vec<_> = mapping_texts.iter().map(|t| File::new(t, report)).collect();
        let rule_files: Vec<_> = rule_texts.into_iter().map(|t| File::new(t, report)).collect();
        let mapping_tables: Vec<_> = mapping_files.iter().map(|f| f.parse()).collect();
        let rule_tables: Vec<_> = rule_files.iter().map(|f| f.parse()).collect();
        let mapping_roots = roots(&mapping_files, &mapping_tables);
        let rule_roots = roots(&rule_files, &rule_tables);
        self.read(&mut rules, &mapping_roots, &rule_roots, known);
        drop((mapping_roots, rule_roots));
        drop((mapping_tables, rule_tables));
        drop((mapping_files, rule_files));
        let problems = self.report.into_problems();
        if problems.is_empty() { Ok(rules) } else { Err(problems) }
    }

    fn read(
        &self,
        rules: &mut Rules,
        mapping_roots: &[Section<'_>],
        rule_roots: &[Section<'_>],
        known: &Known<'_>,
    ) {
        let report = &self.report;
        let mut codes = Codes::new();
        for root in rule_roots {
            rules.rulesets.read(root);
        }
        for root in mapping_roots.iter().chain(rule_roots) {
            codes::read(root, &rules.rulesets, &mut codes);
        }
        let entities = &rules.entities;
        let reader = Reader { entities, codes: &codes, sources: known.sources, report };
        rules.casts = upcast::records(entities, report);
        for mut mapping in mapping_roots.iter().flat_map(|root| reader.file(root)) {
            let key = (mapping.source.clone(), mapping.table.clone());
            let older = std::mem::take(&mut mapping.was);
            rules.olders.add(&key.0, &key.1, older, report);
            rules.mappings.entry(key).or_default().push(mapping);
        }
        rules.links = links_of(&rules.mappings, report);
        let (links, rulesets) = (&rules.links, &rules.rulesets);
        let (sources, groups) = (known.sources, BTreeMap::new());
        let mut owners = OwnershipReader { entities, sources, groups, links, rulesets, report };
        rule_roots.iter().for_each(|root| owners.groups(root));
        let mut inboxes = Inboxes::new();
        for root in rule_roots {
            writing::read_inboxes(root, known.targets, &mut inboxes);
            rules.lanes.read(root, known.targets);
        }
        let inboxes = &inboxes;
        let telling =
            TellingReader { entities, links, targets: known.targets, inboxes, rulesets, report };
        let mut quarantined = Default::default();
        for root in rule_roots {
            owners.file(root, &mut rules.ownership);
            evidence::read(root, &reader, &rules.mappings, &mut rules.evidence);
            lifecycle::read(root, &reader, rulesets, &mut rules.lifecycles);
            telling.file(root, &mut rules.telling);
            quarantine::read(root, entities, known.sources, report, &mut quarantined);
            rules.trials.extend(trial::read(root));
            root.done();
        }
        (rules.quarantines, rules.guards) = quarantined;
        rules.looked_up = lookups::used(&rules.mappings, &rules.evidence, &rules.olders);
        connect(rules);
        check::set_times(rules);
        rules.read_links = read_links(rules);
        for (entity, field) in check::computed_fields(rules).into_keys() {
            rules.computed.or_default(entity).insert(field);
        }
        rules.plans = plan::plans(rules);
        check::check(rules, report);
        let subscriptions = rules.telling.subscriptions.values().flatten().map(|s| &s.kind);
        let releases = rules.telling.releases.values().flatten().map(|r| &r.kind);
        subscriptions.chain(releases).for_each(|kind| rules.lanes.check(kind, report));
    }
}

/// The files that could be parsed.
fn roots<'a, 't>(
    files: &'a [File<'t>],
    tables: &'a [Option<Spanned<DeTable<'t>>>],
) -> Vec<Section<'a>> {
    files.iter().zip(tables).filter_map(|(f, t)| Some(f.root(t.as_ref()?))).collect()
}

/// Works out which records must be looked at again when another one changes.
fn connect(rules: &mut Rules) {
    rules.owner_links = links::read_by_owners(&rules.ownership, &rules.links);
    rules.followers = links::followers(&rules.owner_links, &rules.links);
    rules.timed = deadline::timed_entities(rules);
    for (parent, projections) in &rules.telling.projections {
        for child in projections.iter().flat_map(|p| p.children.values()) {
            rules.parents.or_default(child.clone()).insert(parent.clone());
        }
    }
    for (entity, releases) in &rules.telling.releases {
        let linked = linked_entities(entity, &rules.links, &rules.entities);
        for (link, to) in linked {
            if releases.iter().any(|r| r.links.contains(&link)) {
                rules.released_by_links.insert(to.name.clone());
            }
        }
    }
}

/// Works out which links of each entity subscriptions and release rules read.
fn read_links(rules: &Rules) -> Named<BTreeSet<Name>> {
    let mut read: Named<BTreeSet<Name>> = Named::new();
    for (entity, all) in &rules.telling.subscriptions {
        read.or_default(entity.clone()).extend(all.iter().flat_map(|s| s.links.iter().cloned()));
    }
    for (entity, all) in &rules.telling.releases {
        read.or_default(entity.clone()).extend(all.iter().flat_map(|r| r.links.iter().cloned()));
    }
    read
}

fn hash(entities: &Entities, mappings: &[SourceText], rules: &[SourceText]) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(entities).unwrap_or_default());
    for file in mappings.iter().chain(rules) {
        for part in [&file.file, &file.text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect()
}
