//! From the path of a config file to a checked [`Config`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossdock_model::Problem;
use crossdock_model::problem::line_of;
use secrecy::SecretString;
use toml::de::DeTable;

use crate::agreement;
use crate::database::connection;
use crate::findings::{ConfigErrors, Findings};
use crate::folder;
use crate::installation::{Installation, installation, journal, registry};
use crate::mirror::{Targets, mirror};
use crate::quantity::duration;
use crate::rules::{self, RuleFiles, Rules};
use crate::section::{Found, Section, Source};
use crate::settings::{
    At, Config, Connection, JournalConfig, MirrorConfig, SourceConfig, TargetConfig,
};
use crate::source::source;
use crate::target::{Sources, target};
use crossdock_model::database::DatabaseKind;

/// Reads a config file and every file that it names. `environment` gives the values of variables
/// (in the service: those of the process).
///
/// # Errors
/// Every problem of every file. Syntax errors of the config file itself come alone, since little
/// can be said about what it might have meant.
pub fn load(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigErrors> {
    load_with(path, environment, &Folders::default())
}

/// Folders to be read instead of those that the config file names: files that are not in use yet.
#[derive(Clone, Debug, Default)]
pub struct Folders {
    /// Of entity files.
    pub entities: Option<PathBuf>,
    /// Of mapping files.
    pub mappings: Option<PathBuf>,
    /// Of rule files.
    pub rules: Option<PathBuf>,
}

/// As [`load`], with some of the folders exchanged.
///
/// # Errors
/// Every problem of every file.
pub fn load_with(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    folders: &Folders,
) -> Result<Config, ConfigErrors> {
    let mut files = vec![path.to_path_buf()];
    let (draft, warnings) = with_root(path, environment, |root| {
        let draft = read(root, folders, &mut files);
        root.finish();
        draft
    })?;
    // A part is absent only after a problem has said why; this is the belt to those braces.
    draft.finish(files, warnings).ok_or_else(|| incomplete(path))
}

/// Parses a config file and reads something from it; gives warnings, too.
fn with_root<T>(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    read: impl FnOnce(&Section<'_>) -> T,
) -> Result<(T, Vec<Problem>), ConfigErrors> {
    let text = folder::read_text(path).map_err(|problem| ConfigErrors::new(vec![problem]))?;
    let file = path.display().to_string();
    let (document, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        // Only the message: the error's own text shows the line, which may hold a password.
        let problem = |e: &toml::de::Error| Problem {
            file: file.clone(),
            line: e.span().map_or(0, |span| line_of(&text, span.start)),
            what: e.message().to_string(),
            remedy: "mend the TOML: texts stand in quotes, one setting a line".to_string(),
        };
        return Err(ConfigErrors::new(errors.iter().map(problem).collect()));
    }
    let findings = Findings::default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let source = Source { file: &file, text: &text, folder, environment, findings: &findings };
    let found = read(&Section::new(source, document.get_ref()));
    Ok((found, findings.into_result()?))
}

fn incomplete(path: &Path) -> ConfigErrors {
    let (what, remedy) = ("is incomplete".to_string(), "report this as a bug".to_string());
    ConfigErrors::new(vec![Problem { file: path.display().to_string(), line: 0, what, remedy }])
}

/// The state folder that a config file names, whatever else is wrong with it or its other files:
/// enough to find the process that runs.
///
/// # Errors
/// What is wrong with `[crossdock]`, or the file cannot be read.
pub fn state_dir(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<PathBuf, ConfigErrors> {
    let (found, _) = with_root(path, environment, |root| {
        let section = root.section("crossdock")?;
        Some(installation(&section)?.state_dir)
    })?;
    found.ok_or_else(|| incomplete(path))
}

/// What has been read; a part is absent when there was a problem with it.
struct Draft {
    installation: Option<Installation>,
    registry: Option<Option<SecretString>>,
    journal: Option<JournalConfig>,
    store: Option<Store>,
    sources: Vec<SourceConfig>,
    targets: Vec<TargetConfig>,
    mirrors: Vec<MirrorConfig>,
    rules: Option<Arc<Rules>>,
}

impl Draft {
    fn finish(self, files: Vec<PathBuf>, warnings: Vec<Problem>) -> Option<Config> {
        let Installation { name, state_dir, listen } = self.installation?;
        let Store { at: store_at, connection: store, history_retain } = self.store?;
        Some(Config {
            name,
            state_dir,
            listen,
            registry_password: self.registry?,
            journal: self.journal?,
            store,
            history_retain,
            store_at,
            sources: self.sources,
            targets: self.targets,
            mirrors: self.mirrors,
            rules: self.rules?,
            files,
            warnings,
        })
    }
}

fn read(root: &Section<'_>, folders: &Folders, files: &mut Vec<PathBuf>) -> Draft {
    let head = root.section("crossdock");
    if head.is_none() && !root.has("crossdock") {
        let remedy = "add `[crossdock]` and below it `name = \"demo\"`";
        root.problem(0, "has no section [crossdock]", remedy);
    }
    let installation = head.as_ref().and_then(installation);
    let name = installation.as_ref().map_or("", |i| i.name.as_str());
    let registry = registry(root);
    let journal = journal(root);
    let store = store(root);

    let source_sections = root.named_sections("source");
    let source_names: Vec<String> = source_sections.iter().map(|(name, _)| name.clone()).collect();
    let good = source_sections.iter().filter_map(|(key, section)| source(key, name, section));
    let sources: Vec<SourceConfig> = good.collect();
    if source_sections.is_empty() && !root.has("source") {
        root.problem(0, "has no source", "add `[source.NAME]` with the database to capture");
    }
    let known = Sources { names: &source_names, good: &sources };

    let target_sections = root.named_sections("target");
    let target_names: Vec<String> = target_sections.iter().map(|(name, _)| name.clone()).collect();
    let good = target_sections.iter().filter_map(|(key, section)| target(key, &known, section));
    let targets: Vec<TargetConfig> = good.collect();
    let told = Targets { names: &target_names, good: &targets };

    let mirror_sections = root.named_sections("mirror");
    let good = mirror_sections.iter().filter_map(|(key, s)| mirror(key, &known, &told, s));
    let mirrors: Vec<MirrorConfig> = good.collect();

    agreement::sources(root.source, &sources);
    agreement::targets(root.source, &sources, &targets);
    agreement::mirrors(root.source, &targets, &mirrors);
    let rules = head.as_ref().and_then(|head| {
        let texts = rule_files(head, folders, files);
        head.finish();
        rules::compile(texts, &source_names, &target_names, root.source.findings)
    });
    agreement::polled(root.source, &sources, &targets, &mirrors, rules.as_deref());
    Draft { installation, registry, journal, store, sources, targets, mirrors, rules }
}

/// The section of the canonical store.
struct Store {
    at: At,
    connection: Connection,
    history_retain: Option<Duration>,
}

fn store(root: &Section<'_>) -> Option<Store> {
    let Some(section) = root.section("store") else {
        if !root.has("store") {
            let remedy = "add `[store]` with the PostgreSQL database that keeps the records";
            root.problem(0, "has no section [store]", remedy);
        }
        return None;
    };
    let connection = connection(&section, "store", Some(DatabaseKind::Postgres));
    let limits = ("31d", "36500d");
    let history_retain = section
        .has("history_retain")
        .then(|| section.quantity("history_retain", "400d", limits, duration));
    section.finish();
    let history_retain = match history_retain {
        Some(retain) => Some(retain?),
        None => None,
    };
    Some(Store { at: section.at(), connection: connection?, history_retain })
}

/// The texts of all entity, mapping and rule files.
fn rule_files(section: &Section<'_>, instead: &Folders, files: &mut Vec<PathBuf>) -> RuleFiles {
    let Folders { entities, mappings, rules } = instead;
    let folders = [("entities", entities), ("mappings", mappings), ("rules", rules)];
    let folders = folders.map(|(key, instead)| {
        let named = folder::named(section, key);
        let exchanged = |value: &PathBuf| {
            let (value, written) = (value.clone(), key.to_string());
            vec![Found { value, written, line: section.line }]
        };
        (key, instead.as_ref().map_or(named, exchanged))
    });
    agreement::folders(section, &folders);
    let overlays: Vec<Found<PathBuf>> = folders
        .last()
        .iter()
        .flat_map(|(_, rules)| rules)
        .flat_map(|rules| folder::regions(&rules.value))
        .map(|value| Found { value, written: "rules".to_string(), line: section.line })
        .collect();
    let mut read = |folders: &[Found<PathBuf>]| {
        folders.iter().flat_map(|found| folder::read(found, section, files)).collect::<Vec<_>>()
    };
    let [entities, mappings, mut rules] = folders.map(|(_, found)| read(&found));
    rules.extend(read(&overlays));
    RuleFiles { entities, mappings, rules }
}
