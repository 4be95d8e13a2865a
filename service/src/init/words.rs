//! Words of names: of tables, columns, entities and fields, and what they may mean.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Deserialize;

/// What is known of words, from `words.toml`.
#[derive(Debug, Deserialize)]
pub struct Words {
    /// How tables of an entity may be called.
    pub tables: BTreeMap<String, Vec<String>>,
    /// Names by which a table is about another one.
    about: About,
    columns: BTreeMap<String, Vec<String>>,
    /// Values of key fields that a system may not have as a column.
    pub constants: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct About {
    last: Vec<String>,
}

impl Words {
    /// The words that come with Crossdock.
    pub fn shipped() -> anyhow::Result<Self> {
        toml::from_str(include_str!("words.toml")).context("the words of `init`")
    }

    /// How well a table's name fits an entity; 0 when it does not.
    pub fn fit(&self, table: &str, entity: &str) -> usize {
        let words = split(table);
        if words.last().is_some_and(|last| self.about.last.contains(last)) {
            return 0;
        }
        let phrases = self.tables.get(entity).into_iter().flatten();
        let fits = phrases.filter_map(|phrase| {
            let phrase: Vec<&str> = phrase.split(' ').collect();
            let ends = words.iter().rev().zip(phrase.iter().rev()).all(|(w, p)| w == p);
            let beyond = words.len().checked_sub(phrase.len())?;
            // Two words that fit say more than one; words that are left over say less.
            ends.then(|| (phrase.len() * 10).saturating_sub(beyond.min(9)))
        });
        fits.max().unwrap_or(0)
    }

    /// Names under which a field may be a column, the best first: each as words.
    pub fn names(&self, entity: &str, field: &str) -> Vec<Vec<String>> {
        let others = [format!("{entity}.{field}"), field.to_string()];
        let others = others.iter().filter_map(|key| self.columns.get(key)).flatten();
        let own = std::iter::once(split(field));
        own.chain(others.map(|phrase| split(phrase))).collect()
    }
}

/// The words of a name in small letters and the singular: `SalesOrderLines` is sales, order, line.
pub fn split(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    let mut lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && lower) {
            words.push(String::new());
        }
        lower = c.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    let last = words.len().saturating_sub(1);
    // Only the last word of a name is in the plural: `sales_order` is no `sale_order`.
    words.into_iter().enumerate().map(|(at, w)| if at == last { singular(w) } else { w }).collect()
}

fn singular(word: String) -> String {
    if word.ends_with("ss") || word.ends_with("us") || word.ends_with("is") {
        return word;
    }
    if let Some(stem) = word.strip_suffix("ies") {
        return format!("{stem}y");
    }
    for plural in ["xes", "ches", "shes"] {
        if let Some(stem) = word.strip_suffix(plural) {
            return format!("{stem}{}", &plural[..plural.len() - 2]);
        }
    }
    word.strip_suffix('s').map(str::to_string).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_into_words() {
        assert_eq!(split("SalesOrderLines"), ["sales", "order", "line"]);
        assert_eq!(split("sale_sale"), ["sale", "sale"]);
        assert_eq!(split("countries"), ["country"]);
        assert_eq!(split("boxes"), ["box"]);
        assert_eq!(split("order_status"), ["order", "status"]);
    }

    #[test]
    fn the_longest_phrase_fits_best() {
        let words = Words::shipped().unwrap();
        let best = |table: &str| {
            let fits = words.tables.keys().map(|e| (words.fit(table, e), e.as_str()));
            fits.max().filter(|(fit, _)| *fit > 0).map(|(_, entity)| entity)
        };
        assert_eq!(best("sales_order_lines"), Some("order_line"));
        assert_eq!(best("sales_orders"), Some("sales_order"));
        assert_eq!(best("product_variant"), Some("product"));
        assert_eq!(best("stock_level"), Some("inventory_position"));
        assert_eq!(best("customer_history"), None);
        assert_eq!(best("users"), None);
    }
}
