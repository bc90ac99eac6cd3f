//! A statement as it was typed: read, and refused where it is not one that only reads.
//!
//! In: SQL text, which may be hostile. Out: one [`Statement`], or what is wrong and where.

use datafusion::arrow::datatypes::Schema;
use datafusion::sql::sqlparser::ast::{
    DescribeAlias, Expr, ObjectName, SelectItem, SetExpr, Statement as Ast,
};
use datafusion::sql::sqlparser::dialect::DuckDbDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use keytrail_model::Fatal;

/// A statement is at most so long, in bytes.
const MOST_BYTES: usize = 64 << 10;

/// Expressions and queries are at most so deep within each other.
const MOST_DEPTH: usize = 100;

/// A statement has at most so many words and signs that could nest: each makes a tree deeper by one.
const MOST_NESTING: usize = 4000;

/// Words that a statement that only reads begins with.
const READING: [&str; 8] = ["SELECT", "WITH", "VALUES", "FROM", "EXPLAIN", "DESCRIBE", "DESC", "SHOW"];

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// The rows of a query.
    Rows(Box<Ast>),
    /// How a query would be run.
    Plan(Box<Ast>),
    /// The tables.
    Tables,
    /// The columns of a table.
    Columns(ObjectName),
    /// The columns of a query.
    ColumnsOf(Box<Ast>),
}

/// A statement that only reads.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// What it asks for.
    pub asked: Asked,
    /// Its words, to say where something is.
    tokens: Vec<TokenWithSpan>,
}

impl Statement {
    /// Reads a statement.
    ///
    /// # Errors
    /// `Usage.Query`: it is no SQL, more than one statement, or does something else than read.
    pub fn parse(sql: &str) -> Result<Self, Fatal> {
        if sql.len() > MOST_BYTES {
            return Err(wrong(format!(
                "the statement has {} bytes, expected {MOST_BYTES} at most",
                sql.len()
            )));
        }
        let dialect = DuckDbDialect {};
        let tokens = Tokenizer::new(&dialect, sql)
            .tokenize_with_location()
            .map_err(|e| wrong(with_place(&ParserError::from(e).to_string())))?;
        let nesting = tokens.iter().filter(|t| nests(&t.token)).count();
        if nesting > MOST_NESTING {
            return Err(wrong(format!(
                "the statement has {nesting} operators and key words, expected {MOST_NESTING} at most: a list takes `IN (...)`"
            )));
        }
        let words = tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::SemiColon));
        let Some(first) = words.clone().find(|t| !matches!(t.token, Token::LParen | Token::EOF)) else {
            return Err(wrong("there is no statement: expected one, as in `SELECT count(*) FROM events`"));
        };
        let word = first.token.to_string().to_ascii_uppercase();
        if !READING.contains(&word.as_str()) {
            return Err(refused(&first.token.to_string()));
        }
        let parsed = Parser::new(&dialect)
            .with_tokens_with_locations(tokens.clone())
            .with_recursion_limit(MOST_DEPTH)
            .parse_statements()
            .map_err(|e| match e {
                ParserError::RecursionLimitExceeded => {
                    wrong(format!("the statement is nested more than {MOST_DEPTH} levels deep"))
                }
                e => wrong(with_place(&e.to_string())),
            })?;
        let one: [Ast; 1] = parsed.try_into().map_err(|all: Vec<Ast>| {
            wrong(format!("there are {} statements: expected one at a time", all.len()))
        })?;
        let [ast] = one;
        let asked = match ast {
            Ast::Query(_) => Asked::Rows(Box::new(ast)),
            Ast::ShowTables { .. } => Asked::Tables,
            Ast::ExplainTable { table_name, .. } => Asked::Columns(table_name),
            Ast::Explain { analyze: true, .. } => {
                return Err(wrong(
                    "`EXPLAIN ANALYZE` runs the statement: run it alone, the line below its rows says what was read",
                ));
            }
            Ast::Explain { statement, describe_alias, .. } => match *statement {
                query @ Ast::Query(_) if describe_alias == DescribeAlias::Explain => {
                    Asked::Plan(Box::new(query))
                }
                query @ Ast::Query(_) => Asked::ColumnsOf(Box::new(query)),
                other => return Err(refused(first_word(&other))),
            },
            Ast::ShowColumns { .. } | Ast::ShowVariable { .. } | Ast::ShowFunctions { .. } => {
                return Err(wrong("expected `SHOW TABLES`, or `DESCRIBE events` for the columns of a table"));
            }
            other => return Err(refused(first_word(&other))),
        };
        Ok(Self { asked, tokens })
    }

    /// Where a word stands first, as `line 1, column 8: `; nothing where it does not.
    pub fn place(&self, word: &str) -> String {
        let is = |token: &Token| matches!(token, Token::Word(w) if w.value.eq_ignore_ascii_case(word));
        let found = self.tokens.iter().find(|t| is(&t.token));
        found.map_or_else(String::new, |t| {
            format!("line {}, column {}: ", t.span.start.line, t.span.start.column)
        })
    }

    /// What the columns of its rows are called: an expression without a name as it was typed.
    pub fn heads(&self, schema: &Schema) -> Vec<String> {
        let names = schema.fields().iter().map(|field| field.name().clone());
        let select = match self.query() {
            Some(Ast::Query(query)) => match &*query.body {
                SetExpr::Select(select) if select.projection.len() == schema.fields().len() => select,
                _ => return names.collect(),
            },
            _ => return names.collect(),
        };
        let head = |(name, item): (String, &SelectItem)| match item {
            SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => name,
            SelectItem::UnnamedExpr(expr) => expr.to_string(),
            _ => name,
        };
        names.zip(&select.projection).map(head).collect()
    }

    /// The query in it.
    pub fn query(&self) -> Option<&Ast> {
        match &self.asked {
            Asked::Rows(query) | Asked::Plan(query) | Asked::ColumnsOf(query) => Some(query),
            Asked::Tables | Asked::Columns(_) => None,
        }
    }
}

/// Whether a token can make a statement's tree deeper; brackets have a limit of their own.
fn nests(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Number(..) | Token::SingleQuotedString(_) | Token::Whitespace(_) => false,
        Token::Comma | Token::LParen | Token::RParen => false,
        _ => true,
    }
}

/// Wrong SQL.
pub(crate) fn wrong(what: impl Into<String>) -> Fatal {
    Fatal::new("Usage.Query", what)
}

fn refused(word: &str) -> Fatal {
    wrong(format!(
        "`{}` is refused: a query only reads, with one SELECT, WITH, VALUES, FROM, EXPLAIN, DESCRIBE or SHOW TABLES",
        word.chars().take(40).collect::<String>()
    ))
}

fn first_word(ast: &Ast) -> &'static str {
    match ast {
        Ast::Insert(_) => "INSERT",
        Ast::Update(_) => "UPDATE",
        Ast::Delete(_) => "DELETE",
        _ => "this statement",
    }
}

/// `Expected: ..., found: x at Line: 1, Column: 8` with the place first.
fn with_place(message: &str) -> String {
    let message = message.strip_prefix("sql parser error: ").unwrap_or(message);
    let (what, place) = match message.rsplit_once(" at Line: ") {
        Some((what, place)) => (what, place.split_once(", Column: ")),
        None => (message, None),
    };
    let what = match what.strip_prefix("Expected: ").and_then(|w| w.split_once(", found: ")) {
        Some((expected, "EOF")) => format!("the statement ends where {expected} was expected"),
        Some((expected, found)) => format!("expected {expected}, found `{found}`"),
        None => lower_first(what),
    };
    match place {
        Some((line, column)) => format!("line {line}, column {}: {what}", column.trim_end()),
        None => what,
    }
}

/// A sentence of a library, as ours begin.
pub(crate) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // A name in capital letters stays.
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(sql: &str) -> String {
        let e = Statement::parse(sql).expect_err(sql);
        assert_eq!(e.code, "Usage.Query");
        e.message
    }

    #[test]
    fn only_reading_is_taken() {
        for sql in [
            "select 1",
            "(select 1) union all (select 2);",
            "with a as (select 1) select * from a",
            "values (1), (2)",
            "-- a comment\nselect 1",
            "from events",
            "show tables",
            "describe events",
            "desc events",
            "describe select 1",
            "explain select 1",
        ] {
            Statement::parse(sql).unwrap_or_else(|e| panic!("{sql}: {}", e.message));
        }
        for (sql, word) in [
            ("create table t as select 1", "create"),
            ("create external table t stored as csv location '/etc/passwd'", "create"),
            ("copy events to '/tmp/x'", "copy"),
            ("insert into events values (1)", "insert"),
            ("/* x */ drop view keys", "drop"),
            ("set datafusion.execution.batch_size = 1", "set"),
            ("attach 'x.db'", "attach"),
            ("pragma table_info(x)", "pragma"),
            ("explain insert into events values (1)", "INSERT"),
        ] {
            assert!(error(sql).starts_with(&format!("`{word}` is refused: a query only reads")), "{sql}");
        }
        assert!(error("select 1; select 2").contains("there are 2 statements"));
        assert!(error(" ; -- nothing\n").contains("there is no statement"));
        assert!(error("explain analyze select 1").contains("runs the statement"));
        assert!(error("show columns from events").contains("`DESCRIBE events`"));
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        assert_eq!(
            error("select *\nfrom events were x"),
            "line 2, column 18: expected end of statement, found `x`"
        );
        assert!(error("select (1 + ").starts_with("the statement ends where "), "{}", error("select (1 + "));
        assert!(
            error("select 'a").starts_with("line 1, column 8: unterminated string"),
            "{}",
            error("select 'a")
        );
    }

    #[test]
    fn hostile_statements_end() {
        let deep = format!("select {}1{}", "(".repeat(5000), ")".repeat(5000));
        assert!(error(&deep).contains("levels deep"));
        assert!(error(&format!("select {}1", "1+".repeat(9000))).contains("9001 operators and key words"));
        assert!(error(&format!("select '{}'", "x".repeat(MOST_BYTES))).contains("65536 at most"));
    }
}
