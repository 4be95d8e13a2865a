//! Master data of the demo: customers, products, carriers and sites, by number.

/// How many customers there are.
pub const CUSTOMERS: u32 = 60;
/// How many products there are.
pub const PRODUCTS: u32 = 40;
/// Stock of each product at each site once the history is over, in thousandths.
pub const OPENING_STOCK: i64 = 5_000_000_000;
/// Credit limit of every customer, in minor units.
pub const CREDIT_LIMIT: i64 = 1_000_000;

/// A warehouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Hamburg: MariaDB, confirms when packed.
    Eu,
    /// Memphis: PostgreSQL, confirms when the truck leaves.
    Us,
}

impl Site {
    /// Both sites.
    pub const ALL: [Self; 2] = [Self::Eu, Self::Us];

    /// The site's code in every system.
    pub fn code(self) -> &'static str {
        match self {
            Self::Eu => "EU",
            Self::Us => "US",
        }
    }

    /// Number of this site's shipment for an order.
    pub fn shipment_no(self, order: u32) -> String {
        match self {
            Self::Eu => format!("SHP-{order:06}"),
            Self::Us => format!("OB-{order:06}"),
        }
    }

    /// Number of the load that carries it.
    pub fn load_no(self, order: u32) -> String {
        format!("LD-{}-{order:06}", self.code())
    }

    /// Currency in which freight from this site is paid.
    pub fn currency(self) -> &'static str {
        match self {
            Self::Eu => "EUR",
            Self::Us => "USD",
        }
    }

    /// Carrier number `index` (taken modulo three) of the site's region.
    pub fn carrier(self, index: u32) -> &'static Carrier {
        let first = match self {
            Self::Eu => 0,
            Self::Us => 3,
        };
        &CARRIERS[first + (index % 3) as usize]
    }
}

/// A carrier, and the codes in which it reports.
#[derive(Debug)]
pub struct Carrier {
    /// Standard carrier alpha code, or what takes its place in Europe.
    pub scac: &'static str,
    /// Name.
    pub name: &'static str,
    /// Region: EU or US.
    pub region: &'static str,
    /// Which list of codes it uses.
    pub standard: &'static str,
    /// Its code for "arrived where the goods are picked up".
    pub arrived_origin: &'static str,
    /// Its code for "left with the goods".
    pub departed: &'static str,
    /// Its code for "on the way".
    pub in_transit: &'static str,
    /// Its code for "late".
    pub delayed: &'static str,
    /// Its code for "arrived at the consignee".
    pub arrived_destination: &'static str,
    /// Its code for "delivered".
    pub delivered: &'static str,
}

const REC24: Carrier = Carrier {
    scac: "DHLF",
    name: "Hanse Fracht",
    region: "EU",
    standard: "REC24",
    arrived_origin: "1",
    departed: "24",
    in_transit: "31",
    delayed: "20",
    arrived_destination: "1",
    delivered: "21",
};

const X12: Carrier = Carrier {
    scac: "SCNN",
    name: "Great Lakes Trucking",
    region: "US",
    standard: "X12-214",
    arrived_origin: "X3",
    departed: "AF",
    in_transit: "X6",
    delayed: "SD",
    arrived_destination: "X1",
    delivered: "D1",
};

/// Three carriers of each region. Two of the European ones have their own idea of departure.
pub const CARRIERS: [Carrier; 6] = [
    REC24,
    Carrier { scac: "GEOD", name: "Transports du Rhin", departed: "13", ..REC24 },
    Carrier { scac: "KNNT", name: "Nordkant Spedition", departed: "DEP", ..REC24 },
    X12,
    Carrier { scac: "JBHT", name: "Ozark Intermodal", ..X12 },
    Carrier { scac: "XPOL", name: "Delta Freight Lines", ..X12 },
];

const CITIES: [(&str, &str); 6] = [
    ("Hamburg", "DE"),
    ("Lyon", "FR"),
    ("Rotterdam", "NL"),
    ("Memphis", "US"),
    ("Columbus", "US"),
    ("Dallas", "US"),
];
const TRADES: [&str; 5] = ["Machine Works", "Supply", "Instruments", "Tools", "Pumps"];

/// Code of customer `number` (1 to [`CUSTOMERS`]).
pub fn party_code(number: u32) -> String {
    format!("CUS-{number:03}")
}

/// Name, city and country of customer `number`.
pub fn customer(number: u32) -> (String, &'static str, &'static str) {
    let (city, country) = CITIES[number as usize % CITIES.len()];
    let trade = TRADES[number as usize % TRADES.len()];
    (format!("{city} {trade} {number}"), city, country)
}

/// Code of product `number` (1 to [`PRODUCTS`]).
pub fn sku(number: u32) -> String {
    format!("SKU-{number:03}")
}

/// Unit of product `number`: every fifth one is sold by weight.
pub fn base_uom(number: u32) -> &'static str {
    if number.is_multiple_of(5) { "KGM" } else { "EA" }
}

/// List price of product `number`, in minor units.
pub fn list_price(number: u32) -> i64 {
    450 + 125 * i64::from(number)
}

/// Terms of delivery for order `number`.
pub fn incoterm(number: u32) -> &'static str {
    ["DAP", "FCA", "CPT"][number as usize % 3]
}

/// Number of an order as every system writes it.
pub fn order_no(number: u32) -> String {
    format!("SO-{number:06}")
}
