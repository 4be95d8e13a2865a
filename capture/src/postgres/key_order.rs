//! The order in which a table is read beside the stream: that of the index of its key.

use super::sql;

/// A column of the key, with the operators of its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyColumn {
    pub name: String,
    /// The operators are what `<` and `=` mean without a schema.
    pub standard: bool,
    /// Schema of the operators.
    pub schema: String,
    pub less: String,
    pub equal: String,
    pub greater: String,
}

/// The columns of a key, in the order of its index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyOrder(pub Vec<KeyColumn>);

impl KeyOrder {
    fn is_standard(&self) -> bool {
        self.0.iter().all(|column| column.standard)
    }

    /// What stands after `ORDER BY`.
    pub(super) fn order_by(&self) -> String {
        let standard = self.is_standard();
        let term = |column: &KeyColumn| {
            let name = sql::identifier(&column.name);
            if standard { name } else { format!("{name} USING {}", column.operator(&column.less)) }
        };
        self.0.iter().map(term).collect::<Vec<_>>().join(", ")
    }

    /// The names of the columns as a list.
    pub(super) fn names(&self) -> String {
        let names = self.0.iter().map(|column| sql::identifier(&column.name));
        names.collect::<Vec<_>>().join(", ")
    }

    /// A condition: the row's key comes after these values.
    pub(super) fn after(&self, values: &[String]) -> String {
        if !self.is_standard() {
            return nested(&self.0, values);
        }
        // A comparison of rows is one range of the index.
        let literals: Vec<String> = values.iter().map(|value| sql::literal(value)).collect();
        format!("({}) > ({})", self.names(), literals.join(", "))
    }

    /// A condition: the row's key comes not after these values.
    pub(super) fn up_to(&self, values: &[String]) -> String {
        if !self.is_standard() {
            return format!("NOT {}", nested(&self.0, values));
        }
        let literals: Vec<String> = values.iter().map(|value| sql::literal(value)).collect();
        format!("({}) <= ({})", self.names(), literals.join(", "))
    }
}

impl KeyColumn {
    fn operator(&self, name: &str) -> String {
        format!("OPERATOR({}.{name})", sql::identifier(&self.schema))
    }
}

/// Column by column, for types whose operators are in a schema of their own: they can't be named
/// in a comparison of rows.
fn nested(columns: &[KeyColumn], values: &[String]) -> String {
    let Some(((column, rest), (value, values))) = columns.split_first().zip(values.split_first())
    else {
        return "false".to_string();
    };
    let (name, value) = (sql::identifier(&column.name), sql::literal(value));
    let greater = format!("{name} {} {value}", column.operator(&column.greater));
    if rest.is_empty() {
        return format!("({greater})");
    }
    let equal = format!("{name} {} {value}", column.operator(&column.equal));
    format!("({greater} OR ({equal} AND {}))", nested(rest, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, schema: &str) -> KeyColumn {
        KeyColumn {
            name: name.into(),
            standard: schema == "pg_catalog",
            schema: schema.into(),
            less: "<".into(),
            equal: "=".into(),
            greater: ">".into(),
        }
    }

    #[test]
    fn keys_become_conditions() {
        let key = KeyOrder(vec![column("a", "pg_catalog"), column("B", "pg_catalog")]);
        let values = ["1".to_string(), "it's".to_string()];
        assert_eq!(key.order_by(), r#""a", "B""#);
        assert_eq!(key.after(&values), r#"("a", "B") > ('1', 'it''s')"#);
        assert_eq!(key.up_to(&values), r#"("a", "B") <= ('1', 'it''s')"#);
        let key = KeyOrder(vec![column("a", "pg_catalog"), column("B", "public")]);
        assert_eq!(
            key.order_by(),
            r#""a" USING OPERATOR("pg_catalog".<), "B" USING OPERATOR("public".<)"#
        );
        assert_eq!(
            key.after(&values),
            r#"("a" OPERATOR("pg_catalog".>) '1' OR ("a" OPERATOR("pg_catalog".=) '1' AND ("B" OPERATOR("public".>) 'it''s')))"#
        );
    }
}
