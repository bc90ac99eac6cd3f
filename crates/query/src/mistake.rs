//! What is wrong with a statement, said to whoever typed it.
//!
//! What it is: errors of the engine become sentences that name the column, table or function that was meant. What
//! it is not: it changes no statement. In: the engine's errors. Out: a [`Fatal`].

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{Expr, ObjectName, Query, TableFactor, Visit, Visitor};
use keytrail_model::Fatal;

use crate::statement::{Statement, lower_first, wrong};

/// Original bytes, which may hold secrets.
const ORIGINAL: &str = keytrail_model::Column::EventOriginal.name();

/// Functions of DuckDB that are called otherwise here.
const OF_DUCKDB: [(&str, &str); 8] = [
    ("arg_max", "last(x ORDER BY y)"),
    ("arg_min", "first(x ORDER BY y)"),
    ("count_if", "count(*) FILTER (WHERE ...)"),
    ("epoch", "date_part('epoch', ...)"),
    ("len", "length"),
    ("list", "array_agg"),
    ("regexp_matches", "regexp_like"),
    ("strftime", "to_char"),
];

/// Names that a statement can use.
pub(crate) struct Names {
    /// Tables, each with its columns.
    pub tables: Vec<(String, Vec<String>)>,
    /// Functions in expressions.
    pub functions: BTreeSet<String>,
    /// Functions in the place of a table.
    pub table_functions: BTreeSet<String>,
}

impl Names {
    /// Those of a session.
    pub fn of(state: &SessionState, tables: Vec<(String, Vec<String>)>) -> Self {
        let functions = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
        let functions = functions.chain(state.window_functions().keys());
        let functions = functions.chain(state.higher_order_functions().keys());
        Self {
            tables,
            functions: functions.cloned().chain(["unnest".to_owned()]).collect(),
            table_functions: state.table_functions().keys().cloned().chain(["unnest".to_owned()]).collect(),
        }
    }

    /// Says what is wrong with a statement that the engine does not take.
    pub fn explain(&self, statement: &Statement, error: &DataFusionError) -> Fatal {
        if let DataFusionError::SchemaError(schema, _) = error.find_root()
            && let SchemaError::FieldNotFound { field, valid_fields } = &**schema
        {
            let table = field.relation.as_ref().map(ToString::to_string);
            let valid = valid_fields.iter().map(|f| f.name.as_str()).collect();
            return wrong(self.no_column(statement, table.as_deref(), &field.name, valid));
        }
        let mut used = Used::default();
        if let Some(query) = statement.query() {
            let _all = query.visit(&mut used);
        }
        if let Some(table) = used.tables.iter().find(|t| !self.has_table(&used, t)) {
            return wrong(self.no_table(statement, table));
        }
        if let Some(f) = used.table_functions.iter().find(|f| !self.table_functions.contains(*f)) {
            return wrong(format!(
                "{}no table comes of a function `{f}`: statements read the sealed archive alone, as `events`, `key_operations`, `principals` and `keys`",
                statement.place(f)
            ));
        }
        if let Some(f) = used.functions.iter().find(|f| !self.functions.contains(*f)) {
            let of_duckdb = OF_DUCKDB.iter().find(|(theirs, _)| theirs == f).map(|(_, ours)| *ours);
            let meant = of_duckdb.or_else(|| meant(f, self.functions.iter().map(String::as_str)));
            let meant = meant.map_or(String::new(), |m| format!("; did you mean `{m}`?"));
            return wrong(format!("{}no function is named `{f}`{meant}", statement.place(f)));
        }
        if let DataFusionError::SchemaError(schema, _) = error.find_root()
            && let SchemaError::AmbiguousReference { field } = &**schema
        {
            let name = &field.name;
            return wrong(format!(
                "{}more than one table has a column `{name}`: say which, as in `t.{name}`",
                statement.place(name)
            ));
        }
        wrong(plain(error))
    }

    fn has_table(&self, used: &Used, table: &str) -> bool {
        used.with.contains(table) || self.tables.iter().any(|(name, _)| name == table)
    }

    /// Says that there is no such table.
    pub fn no_table(&self, statement: &Statement, table: &str) -> String {
        let place = statement.place(table);
        let meant = meant(table, self.tables.iter().map(|(name, _)| name.as_str()));
        let all: Vec<String> = self.tables.iter().map(|(name, _)| format!("`{name}`")).collect();
        match meant {
            Some(meant) => format!("{place}no table is named `{table}`; did you mean `{meant}`?"),
            None => format!(
                "{place}no table is named `{table}`: statements read the sealed archive alone, as {}",
                all.join(", ")
            ),
        }
    }

    fn no_column(&self, statement: &Statement, table: Option<&str>, name: &str, valid: Vec<&str>) -> String {
        let place = statement.place(name);
        let dotted = table.map(|table| format!("{table}.{name}"));
        if name == ORIGINAL || name == "event.original" || dotted.as_deref() == Some("event.original") {
            return format!(
                "{place}`{ORIGINAL}` holds the bytes as they came, which may be secret: it is a column with `--raw`"
            );
        }
        let named = dotted.as_deref().unwrap_or(name);
        // Fields of ECS have dots where columns have underscores.
        let by_field = [named, name].into_iter().map(as_column).find(|c| valid.contains(&c.as_str()));
        let meant = by_field.or_else(|| meant(name, valid.iter().copied()).map(str::to_owned));
        if let Some(meant) = meant {
            return format!("{place}no column is named `{named}`; did you mean `{meant}`?");
        }
        let elsewhere: Vec<String> = self
            .tables
            .iter()
            .filter(|(_, columns)| columns.iter().any(|c| c == name))
            .map(|(table, _)| format!("`{table}`"))
            .collect();
        match elsewhere.as_slice() {
            [] => format!("{place}no column is named `{named}`: `DESCRIBE events` lists them"),
            tables => format!("{place}no column is named `{named}` here; {} has it", tables.join(", ")),
        }
    }
}

/// `event.action` and `@timestamp` as columns are named.
fn as_column(field: &str) -> String {
    field.trim_start_matches('@').replace('.', "_").to_ascii_lowercase()
}

/// The name that was meant: nearly the same letters, else one that has it as a part.
fn meant<'a>(name: &str, names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let name = as_column(name);
    let distance = |other: &str| strsim::damerau_levenshtein(&name, other);
    let near = names.clone().map(|n| (distance(n), n)).min();
    let most = (name.chars().count() / 4).clamp(1, 4);
    if let Some((_, near)) = near.filter(|(distance, _)| *distance <= most) {
        return Some(near);
    }
    let part = |n: &&str| n.split('_').any(|part| part == name) || n.ends_with(&format!("_{name}"));
    names.filter(part).min_by_key(|n| n.len())
}

/// Names that a statement uses.
#[derive(Default)]
struct Used {
    with: BTreeSet<String>,
    tables: Vec<String>,
    functions: Vec<String>,
    table_functions: Vec<String>,
}

impl Visitor for Used {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.with.extend(with.map(|cte| cte.alias.name.value.to_ascii_lowercase()));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: None, .. } => self.tables.push(text(name)),
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                self.table_functions.push(text(name));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            self.functions.push(text(&function.name));
        }
        ControlFlow::Continue(())
    }
}

/// A name as the engine looks it up.
pub(crate) fn text(name: &ObjectName) -> String {
    let part = |ident: &datafusion::sql::sqlparser::ast::Ident| match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    };
    let parts = name.0.iter().map(|p| p.as_ident().map_or_else(|| p.to_string(), part));
    parts.collect::<Vec<_>>().join(".")
}

/// An error of the engine without what is about the engine.
pub(crate) fn plain(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::Plan(m)
        | DataFusionError::NotImplemented(m)
        | DataFusionError::Execution(m)
        | DataFusionError::Internal(m)
        | DataFusionError::Configuration(m) => m.clone(),
        DataFusionError::ArrowError(e, _) if matches!(**e, ArrowError::DivideByZero) => {
            "division by zero".into()
        }
        DataFusionError::ArrowError(e, _) => e.to_string(),
        other => other.strip_backtrace(),
    };
    let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default();
    if let Some((_, inner)) = text.split_once(IN_FILTER) {
        return lower_first(&types(&of_debug(inner)));
    }
    let mut text = text.split('\n').next().unwrap_or_default();
    if let Some(said) = no_signature(text) {
        return said;
    }
    // What a function of ours says of the types that it is given.
    text = text.split_once("coercion failed with: ").map_or(text, |(_, said)| said);
    // What follows is about signatures.
    text = text.split(". No function matches").next().unwrap_or_default();
    for prefix in [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Execution error: ",
        "Internal error: ",
        "External error: ",
        "Arrow error: ",
        "Cast error: ",
        "Parser error: ",
        "Compute error: ",
        "Invalid argument error: ",
        "Schema error: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    lower_first(types(text).trim_end_matches('.'))
}

/// What stands before an error of a condition that the scan evaluates, of which the engine keeps the debug form alone.
const IN_FILTER: &str = "Error evaluating filter predicate: ";

/// Whether an error is a condition's own and not the object's that it was evaluated on.
pub(crate) fn is_in_filter(error: &DataFusionError) -> bool {
    error.to_string().contains(IN_FILTER)
}

/// The text in `ArrowError(CastError("..."), ...)`.
fn of_debug(text: &str) -> String {
    if text.contains("DivideByZero") {
        return "division by zero".into();
    }
    let quoted = text.split_once('"').and_then(|(_, rest)| rest.split_once("\")").map(|(inner, _)| inner));
    quoted.map_or_else(|| "a condition cannot be evaluated".into(), |inner| inner.replace("\\\"", "\""))
}

/// `Function 'sum' failed to match any signature, ... received String (DataType: Utf8View)...`
fn no_signature(text: &str) -> Option<String> {
    let (before, _) = text.split_once(" failed to match any signature")?;
    let name = before.rsplit('\'').nth(1)?;
    let of =
        text.split_once("(DataType: ").map(|(_, rest)| rest.split([')', ' ']).next().unwrap_or_default());
    Some(match of {
        Some(of) => format!("function `{name}` does not take {}", types(of)),
        None => format!("function `{name}` does not take what it is given"),
    })
}

/// Names of types as `DESCRIBE` gives them, and literals without theirs.
pub(crate) fn types(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let end = from.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        let (name, has_parts) = match word {
            "Utf8" | "LargeUtf8" | "Utf8View" => ("text", false),
            "Int8" | "Int16" | "Int32" | "Int64" | "UInt8" | "UInt16" | "UInt32" | "UInt64" => {
                ("integer", false)
            }
            "Float16" | "Float32" | "Float64" => ("number", false),
            "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => ("number", true),
            "Boolean" => ("boolean", false),
            "Binary" | "LargeBinary" | "BinaryView" => ("bytes", false),
            "Date32" | "Date64" => ("date", false),
            "Timestamp" => ("time", true),
            "Interval" | "Duration" => ("interval", true),
            "List" | "LargeList" | "FixedSizeList" => ("list", true),
            other => (other, false),
        };
        rest = if has_parts { without_group(after) } else { after };
        match rest.strip_prefix('(').filter(|_| name != word && !has_parts) {
            // A literal: `Int64(1)`.
            Some(_) => {
                let behind = without_group(rest);
                out.push_str(&rest[1..(rest.len() - behind.len()).max(2) - 1]);
                rest = behind;
            }
            None => out.push_str(name),
        }
    }
    out.push_str(rest);
    out
}

/// What follows a group in brackets, where one begins here.
fn without_group(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return if at == 0 { text } else { &text[at + 1..] };
        }
    }
    text
}

/// Whether a query is one that the visitor goes through; used by tests.
#[cfg(test)]
fn used(sql: &str) -> Used {
    let mut used = Used::default();
    let statement = Statement::parse(sql).unwrap();
    let query = statement.query().unwrap();
    let _all = query.visit(&mut used);
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_meant() {
        let names = ["event_action", "event_outcome", "source_ip", "timestamp", "related_ip", "user_name"];
        let meant = |name: &str| meant(name, names.into_iter());
        assert_eq!(meant("event_acton"), Some("event_action"));
        assert_eq!(meant("Event.Action"), Some("event_action"));
        assert_eq!(meant("@timestmp"), Some("timestamp"));
        assert_eq!(meant("action"), Some("event_action"));
        assert_eq!(meant("ip"), Some("source_ip"));
        assert_eq!(meant("price"), None);
        assert_eq!(meant(""), None);
    }

    #[test]
    fn types_are_named_as_in_sql() {
        assert_eq!(
            types("cannot compare Timestamp(µs, \"UTC\") with List(Utf8View, field: 'element') and Int64"),
            "cannot compare time with list and integer"
        );
        assert_eq!(
            types("count(Int64(1)) > Utf8(\"a\") of Utf8("),
            "count(1) > \"a\" of Utf8(".replace("Utf8", "")
        );
        assert_eq!(types("(Timestamp("), "(time(");
    }

    #[test]
    fn names_of_a_statement_are_found() {
        let used =
            used("with a as (select lower(x) from Events) select * from a join read_csv('x') r on true");
        assert!(used.with.contains("a"));
        assert_eq!(used.tables, ["events", "a"]);
        assert_eq!((used.functions, used.table_functions), (vec!["lower".into()], vec!["read_csv".into()]));
    }
}
