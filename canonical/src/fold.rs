//! Folding a transaction: one net change for each row, however often it was updated.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_model::canonical::{Fields, Name, RowKey, SourceRow};
use crossdock_model::mark::{self, Mark, RowDigest};
use crossdock_model::names::shared;
use crossdock_model::{
    ChangeEvent, LogOrder, Op, Position, RowImage, TableName, TableSchema, TxHeader, Value,
};
use foldhash::HashMap;

use crate::rules::{Rules, TableRules};
use crate::upcast;

pub(crate) mod kept;

/// So many rows of a transaction are looked through; more are hashed.
const FEW: usize = 8;

/// A table as far as judging needs it, found once for all its rows.
#[derive(Debug)]
pub(crate) struct Table<'r> {
    /// Its schema.
    pub schema: Arc<TableSchema>,
    /// `schema.table`.
    pub name: Name,
    /// What is said about its rows.
    pub rules: TableRules<'r>,
    keys: Vec<usize>,
    /// Names of the columns, shared.
    names: Vec<Name>,
    /// Places of the columns, in the order of their names.
    sorted: Vec<usize>,
}

impl<'r> Table<'r> {
    fn new(source: &Name, schema: &Arc<TableSchema>, rules: &'r Rules) -> Self {
        let mut keys = schema.key_columns();
        if keys.is_empty() {
            // Without a key the whole row identifies it.
            keys = (0..schema.columns.len()).collect();
        }
        let mut sorted: Vec<usize> = (0..schema.columns.len()).collect();
        sorted.sort_by_key(|at| schema.columns.get(*at).map(|c| &c.name));
        let name = shared(&schema.name.to_string());
        let names = schema.columns.iter().map(|column| shared(&column.name)).collect();
        let rules = rules.of_table(source, &name);
        Self { schema: schema.clone(), name, rules, keys, names, sorted }
    }

    /// Columns that identify a row.
    pub fn key_names(&self) -> impl Iterator<Item = &Name> {
        self.keys.iter().filter_map(|at| self.names.get(*at))
    }

    fn key_of(&self, image: &RowImage<'_>) -> Option<Name> {
        let values: Option<Vec<&Value<'_>>> = self.keys.iter().map(|i| image.get(*i)).collect();
        Some(RowKey::join(values?))
    }

    fn fields(&self, image: RowImage<'static>) -> Fields {
        let mut fields = Vec::with_capacity(self.names.len());
        let mut put = |at: usize, value: Value<'static>| {
            fields.extend(self.names.get(at).map(|name| (name.clone(), value)));
        };
        match image {
            RowImage::Full(mut values) => {
                for at in &self.sorted {
                    if let Some(value) = values.get_mut(*at) {
                        put(*at, std::mem::replace(value, Value::Null));
                    }
                }
            }
            RowImage::Key(mut cells) | RowImage::Partial(mut cells) => {
                for at in &self.sorted {
                    if let Some(value) = cells.get_mut(*at).and_then(Option::take) {
                        put(*at, value);
                    }
                }
            }
        }
        Fields::in_order(fields)
    }
}

/// The net change of one row in one transaction.
#[derive(Clone, Debug)]
pub(crate) struct Net<'r> {
    /// Its table.
    pub table: Arc<Table<'r>>,
    /// The row.
    pub row: RowKey,
    /// Create, update, delete or read.
    pub op: Op,
    /// Columns that the log carried, the last value of each.
    pub image: Arc<Fields>,
    /// Whether that is every column.
    pub full: bool,
    /// The row before the transaction, where the log carried it.
    pub before: Option<Arc<Fields>>,
    /// Row whose columns it takes over: its key was changed.
    pub inherits: Option<RowKey>,
    /// Place of its last change.
    pub at: LogOrder,
}

/// A folded transaction.
#[derive(Debug)]
pub(crate) struct Folded<'r> {
    /// Source.
    pub source: Name,
    /// What is known of the transaction.
    pub header: TxHeader,
    /// Net changes in the order of first appearance.
    pub nets: Vec<Net<'r>>,
    /// Present when Crossdock wrote the transaction: a digest for each row it wrote.
    pub mark: Option<Vec<RowDigest>>,
    /// How often Crossdock itself was the cause of the transaction: 0 without a mark.
    pub hops: u8,
    /// Tables that were truncated.
    pub truncated: Vec<(Name, LogOrder)>,
    /// Rows of tables that nothing maps.
    pub unmapped: BTreeMap<Name, u64>,
    /// Rows that a rate guard had stopped and that are mapped now; then there is nothing else.
    pub woken: Vec<RowKey>,
    /// What these rows state as evidence is known already.
    pub silent: bool,
}

/// Tables by the address of their shared schema; the schema is kept, so that addresses stay valid.
#[derive(Debug, Default)]
pub(crate) struct Tables<'r> {
    by_schema: HashMap<usize, (Arc<TableSchema>, Arc<Table<'r>>)>,
}

impl<'r> Tables<'r> {
    fn get(
        &mut self,
        source: &Name,
        schema: &Arc<TableSchema>,
        rules: &'r Rules,
    ) -> &Arc<Table<'r>> {
        let address = Arc::as_ptr(schema) as usize;
        let known = self.by_schema.entry(address).or_insert_with(|| {
            let older = rules.olders.of(source, &schema.name.to_string().into());
            let now = match older {
                Some(older) => upcast::schema(schema, &older.names),
                None => schema.clone(),
            };
            (schema.clone(), Arc::new(Table::new(source, &now, rules)))
        });
        &known.1
    }
}

/// Folds a transaction.
pub(crate) fn fold<'r>(
    tables: &mut Tables<'r>,
    source: &Name,
    header: TxHeader,
    events: Vec<ChangeEvent>,
    rules: &'r Rules,
) -> Folded<'r> {
    let mut fold = Fold::new(source);
    let mut out = nothing(source, header);
    fold.events(tables, &mut out, events, rules);
    out.nets = fold.slots.into_iter().flatten().collect();
    out
}

/// Rows that are not in their source any more, as a transaction that deletes them.
pub(crate) fn gone<'r>(
    source: &Name,
    header: TxHeader,
    rows: &[SourceRow],
    rules: &'r Rules,
) -> Folded<'r> {
    let at = header.commit.order(0);
    let mut tables: HashMap<Name, Arc<Table<'r>>> = HashMap::default();
    let nets = rows.iter().map(|row| {
        let known = tables.entry(row.key.table.clone());
        let table = known.or_insert_with(|| nameless(&row.key, rules));
        Net {
            table: table.clone(),
            row: row.key.clone(),
            op: Op::Delete,
            image: Arc::default(),
            full: false,
            before: None,
            inherits: None,
            at,
        }
    });
    let nets = nets.collect();
    Folded { nets, ..nothing(source, header) }
}

/// Rows that a rate guard had stopped go on.
pub(crate) fn woken<'r>(
    source: &Name,
    header: TxHeader,
    rows: Vec<RowKey>,
    silent: bool,
) -> Folded<'r> {
    Folded { woken: rows, silent, ..nothing(source, header) }
}

fn nothing<'r>(source: &Name, header: TxHeader) -> Folded<'r> {
    Folded {
        source: source.clone(),
        header,
        nets: Vec::new(),
        mark: None,
        hops: 0,
        truncated: Vec::new(),
        unmapped: BTreeMap::new(),
        woken: Vec::new(),
        silent: false,
    }
}

/// The passing of time: no transaction of any source, and no change of any row.
pub(crate) fn clock<'r>(now_micros: i64) -> Folded<'r> {
    let header = TxHeader {
        id: "clock".into(),
        commit: Position::Postgres { lsn: 0 },
        commit_micros: now_micros,
        origin: None,
        snapshot: false,
    };
    nothing(&crate::ownership::COMPUTED.into(), header)
}

/// A table of which nothing is known but its name: its rows have keys already.
fn nameless<'r>(row: &RowKey, rules: &'r Rules) -> Arc<Table<'r>> {
    let name = TableName::parse(&row.table).unwrap_or_else(|| TableName::new("", &row.table));
    let schema = Arc::new(TableSchema { name, columns: Vec::new() });
    let rules = rules.of_table(&row.source, &row.table);
    let (keys, names, sorted) = (Vec::new(), Vec::new(), Vec::new());
    Arc::new(Table { schema, name: row.table.clone(), rules, keys, names, sorted })
}

fn progress_mark(table: &Table<'_>, event: &ChangeEvent) -> Option<String> {
    let column = table.schema.column("mark")?;
    event.after.as_ref()?.get(column)?.to_text()
}

fn add_mark(into: &mut Folded, text: Option<&str>) {
    if let Some(mark) = text.and_then(Mark::from_json) {
        into.mark.get_or_insert_default().extend(mark.rows);
        into.hops = into.hops.max(mark.hops.saturating_add(1));
    }
}

struct Fold<'f, 'r> {
    source: &'f Name,
    slots: Vec<Option<Net<'r>>>,
    /// Table and key of each slot.
    rows: Vec<(Name, Name)>,
    /// Slots by table and key, as soon as there are more than a few.
    by_row: HashMap<(Name, Name), usize>,
}

impl<'f, 'r> Fold<'f, 'r> {
    fn new(source: &'f Name) -> Self {
        Self { source, slots: Vec::new(), rows: Vec::new(), by_row: HashMap::default() }
    }

    /// Takes events; what is of the transaction rather than of a row goes to `out`.
    fn events(
        &mut self,
        tables: &mut Tables<'r>,
        out: &mut Folded<'r>,
        events: Vec<ChangeEvent>,
        rules: &'r Rules,
    ) {
        for event in events {
            if let Some((prefix, content)) = &event.message {
                if prefix == mark::PREFIX {
                    add_mark(out, std::str::from_utf8(content).ok());
                }
                continue;
            }
            let Some(schema) = &event.table else { continue };
            let table = tables.get(self.source, schema, rules);
            if &*schema.name.table == mark::PROGRESS_TABLE {
                add_mark(out, progress_mark(table, &event).as_deref());
                continue;
            }
            if !table.rules.matter() {
                *out.unmapped.entry(table.name.clone()).or_default() += 1;
                continue;
            }
            let place = if out.header.snapshot { 0 } else { event.ordinal.saturating_add(1) };
            let at = out.header.commit.order(place);
            match event.op {
                Op::Truncate => out.truncated.push((table.name.clone(), at)),
                Op::Message => {}
                _ => self.event(table, event, at),
            }
        }
    }

    /// The slot of a row.
    fn slot(&self, table: &Name, pk: &Name) -> Option<usize> {
        if self.rows.len() <= FEW {
            return self.rows.iter().position(|(t, k)| k == pk && t == table);
        }
        self.by_row.get(&(table.clone(), pk.clone())).copied()
    }

    /// Adds a row.
    fn add(&mut self, place: (Name, Name), net: Option<Net<'r>>) {
        self.rows.push(place);
        self.slots.push(net);
        let unnoted = if self.rows.len() > FEW { self.by_row.len() } else { self.rows.len() };
        let new = self.rows.iter().enumerate().skip(unnoted);
        self.by_row.extend(new.map(|(at, row)| (row.clone(), at)));
    }

    fn event(&mut self, table: &Arc<Table<'r>>, event: ChangeEvent, at: LogOrder) {
        let old_key = event.before.as_ref().and_then(|b| table.key_of(b));
        let new_key = event.after.as_ref().and_then(|a| table.key_of(a));
        let key_only = matches!(event.before, Some(RowImage::Key(_)));
        let before = event.before.map(|image| Arc::new(table.fields(image)));
        if event.op == Op::Delete {
            let image = before.clone().unwrap_or_default();
            let before = before.filter(|_| !key_only);
            if let Some(pk) = old_key {
                self.put(table, pk, Op::Delete, image, false, before, at);
            }
            return;
        }
        let Some(after) = event.after else { return };
        let Some(pk) = new_key.or_else(|| old_key.clone()) else { return };
        let full = matches!(after, RowImage::Full(_));
        let image = Arc::new(table.fields(after));
        match old_key {
            Some(old) if event.op == Op::Update && old != pk => {
                self.moved(table, old, pk, before.unwrap_or_default(), (image, full), at);
            }
            _ => {
                let before = before.filter(|_| !key_only);
                self.put(table, pk, event.op, image, full, before, at);
            }
        }
    }

    /// A row whose key changed: the old one is gone, and the new one takes over its columns.
    fn moved(
        &mut self,
        table: &Arc<Table<'r>>,
        old: Name,
        pk: Name,
        gone: Arc<Fields>,
        (image, full): (Arc<Fields>, bool),
        at: LogOrder,
    ) {
        let slot = self.slot(&table.name, &old);
        let earlier = slot.and_then(|i| self.slots.get(i)?.clone());
        let merged = laid_on(earlier.as_ref().map(|n| n.image.clone()).unwrap_or_default(), image);
        let inherits = earlier.as_ref().map_or_else(
            || Some(self.row(table, old.clone())),
            |n| n.inherits.clone().or_else(|| (n.op == Op::Update).then(|| n.row.clone())),
        );
        self.put(table, old, Op::Delete, gone, false, None, at);
        self.put(table, pk.clone(), Op::Create, merged, full, None, at);
        let slot = self.slot(&table.name, &pk);
        if let Some(Some(net)) = slot.and_then(|i| self.slots.get_mut(i)) {
            net.inherits = inherits.filter(|_| !full);
        }
    }

    fn row(&self, table: &Table<'_>, pk: Name) -> RowKey {
        RowKey { source: self.source.clone(), table: table.name.clone(), pk }
    }

    #[allow(clippy::too_many_arguments)]
    fn put(
        &mut self,
        table: &Arc<Table<'r>>,
        pk: Name,
        op: Op,
        image: Arc<Fields>,
        full: bool,
        before: Option<Arc<Fields>>,
        at: LogOrder,
    ) {
        let slot = self.slot(&table.name, &pk);
        let net = Net {
            table: table.clone(),
            row: self.row(table, pk),
            op,
            image,
            full,
            before,
            inherits: None,
            at,
        };
        let Some(slot) = slot else {
            let place = (net.row.table.clone(), net.row.pk.clone());
            return self.add(place, Some(net));
        };
        let Some(place) = self.slots.get_mut(slot) else { return };
        *place = match place.take() {
            None => Some(net),
            Some(earlier) => combine(earlier, net),
        };
    }
}

/// An image with the columns of a later one.
pub(crate) fn laid_on(mut image: Arc<Fields>, later: Arc<Fields>) -> Arc<Fields> {
    if later.len() >= image.len() && image.keys().all(|name| later.contains_key(name)) {
        return later;
    }
    Arc::make_mut(&mut image).extend(Arc::unwrap_or_clone(later));
    image
}

/// The net effect of two changes of one row; `None` when nothing remains.
fn combine<'r>(earlier: Net<'r>, later: Net<'r>) -> Option<Net<'r>> {
    let op = match (earlier.op, later.op) {
        // Born and gone within the transaction.
        (Op::Create, Op::Delete) => return None,
        (Op::Delete, Op::Delete) => Op::Delete,
        (_, Op::Delete) => Op::Delete,
        // Gone and back: the row has changed, all of it.
        (Op::Delete, _) => Op::Update,
        (Op::Create, _) => Op::Create,
        (Op::Read, _) => Op::Read,
        (_, later) => later,
    };
    let restart = later.full || earlier.op == Op::Delete;
    let full = later.full || (!restart && earlier.full);
    let image = if restart { later.image } else { laid_on(earlier.image, later.image) };
    Some(Net {
        op,
        image,
        full,
        before: earlier.before.or(later.before),
        inherits: if restart { later.inherits } else { earlier.inherits },
        ..later
    })
}
