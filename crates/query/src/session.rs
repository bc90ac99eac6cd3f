//! What statements run in: the tables, the engine's settings, its functions.
//!
//! What it is: a DataFusion session that knows `events` and the views of `schemas/query/`, and nothing else: no
//! file, no catalogue, no place to write to. In: an [`Archive`]. Out: plans.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::Statement as Ast;
use keytrail_model::{Column, Fatal};

use crate::events::{DATASET, DAY, Events, schema};
use crate::exact;
use crate::mistake::{self, Names};
use crate::object::Archive;
use crate::statement::{Asked, Statement, wrong};
use crate::value::type_name;

/// The table of events.
const EVENTS: &str = "events";

/// Views, each made of what stands before it: name, what it has a row of, definition.
pub const VIEWS: [(&str, &str, &str); 3] = [
    (
        "key_operations",
        "an operation on a key, with short names",
        include_str!("../../../schemas/query/key_operations.sql"),
    ),
    (
        "principals",
        "who operated on keys, by dataset, account and actor",
        include_str!("../../../schemas/query/principals.sql"),
    ),
    ("keys", "a key, by dataset", include_str!("../../../schemas/query/keys.sql")),
];

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// Bytes that a scan which is sorted on the way may hold.
const SORT_BUFFER_BYTES: usize = 32 << 20;

/// What statements run in.
pub(crate) struct Session {
    context: SessionContext,
    names: Names,
    archive: Arc<Archive>,
    raw: bool,
}

impl Session {
    /// Over an archive; with original bytes or without.
    pub async fn open(archive: Arc<Archive>, raw: bool, threads: usize, memory_bytes: u64) -> Result<Self> {
        let mut config = SessionConfig::new().with_target_partitions(threads).with_batch_size(BATCH_ROWS);
        let options = config.options_mut();
        // As DuckDB: one statement gives the same rows in both.
        options.sql_parser.default_null_ordering = "nulls_last".into();
        options.execution.parquet.pushdown_filters = true;
        options.execution.parquet.reorder_filters = true;
        options.execution.sort_pushdown_buffer_capacity = SORT_BUFFER_BYTES;
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes.try_into().unwrap_or(usize::MAX))))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()?;
        let mut context = SessionContext::new_with_config_rt(config, runtime);
        exact::register(&mut context)?;
        // Names that DuckDB has for the same.
        context.register_udaf(first_value_udaf().as_ref().clone().with_aliases(["first"]));
        context.register_udaf(last_value_udaf().as_ref().clone().with_aliases(["last"]));
        context.register_table(EVENTS, Arc::new(Events::new(Arc::clone(&archive), raw)))?;
        for (_, _, definition) in VIEWS {
            context.sql(definition).await?;
        }
        let mut tables = Vec::new();
        for table in [EVENTS].into_iter().chain(VIEWS.map(|(name, ..)| name)) {
            let schema = context.table_provider(table).await?.schema();
            tables.push((table.to_owned(), schema.fields().iter().map(|f| f.name().clone()).collect()));
        }
        let names = Names::of(&context.state(), tables);
        Ok(Self { context, names, archive, raw })
    }

    /// The engine's session.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// What a statement asks for, as a plan.
    ///
    /// # Errors
    /// `Usage.Query`: names that are not there, types that do not fit.
    pub async fn plan(&self, statement: &Statement) -> std::result::Result<LogicalPlan, Fatal> {
        match &statement.asked {
            Asked::Rows(query) | Asked::Plan(query) => self.plan_query(statement, query).await,
            Asked::ColumnsOf(query) => {
                let plan = self.plan_query(statement, query).await?;
                let schema = plan.schema().as_arrow();
                let fields = schema.fields().iter().zip(statement.heads(schema));
                let fields: Vec<Field> = fields.map(|(f, head)| f.as_ref().clone().with_name(head)).collect();
                self.columns(&Schema::new(fields))
            }
            Asked::Tables => self.tables(),
            Asked::Columns(name) => {
                let name = mistake::text(name);
                let table = self.names.tables.iter().any(|(table, _)| *table == name);
                if !table {
                    return Err(wrong(self.names.no_table(statement, &name)));
                }
                if name == EVENTS {
                    return self.columns(&schema(self.raw));
                }
                let view = self.context.table_provider(name).await.map_err(|e| unexpected(&e))?;
                self.columns(&view.schema())
            }
        }
    }

    async fn plan_query(
        &self,
        statement: &Statement,
        query: &Ast,
    ) -> std::result::Result<LogicalPlan, Fatal> {
        let explain = |e: DataFusionError| self.names.explain(statement, &e);
        let mut query = query.clone();
        exact::compare_spans(&mut query);
        let parsed = Parsed::Statement(Box::new(query));
        let plan = self.context.state().statement_to_plan(parsed).await.map_err(explain)?;
        let reading =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reading
            .verify_plan(&plan)
            .map_err(|_| wrong("`INTO`, `INSERT` and the like are refused: a query only reads"))?;
        Ok(plan)
    }

    /// Says why a statement that was planned failed on the way.
    pub fn failed(&self, statement: &Statement, error: &DataFusionError) -> Fatal {
        self.names.explain(statement, error)
    }

    /// The archive.
    pub fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    fn tables(&self) -> std::result::Result<LogicalPlan, Fatal> {
        let events = [(EVENTS, "an event of the archive, with all columns of schemas/archive.md")];
        let views = VIEWS.map(|(name, row, _)| (name, row));
        let (names, rows): (Vec<_>, Vec<_>) = events.into_iter().chain(views).unzip();
        self.list(&[("table", names), ("a row is", rows)])
    }

    fn columns(&self, schema: &Schema) -> std::result::Result<LogicalPlan, Fatal> {
        let names = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let types: Vec<String> = schema.fields().iter().map(|f| type_name(f.data_type())).collect();
        let meaning = |name: &str| match (name, Column::by_name(name)) {
            (DATASET, _) => "partition: dataset of the event",
            (DAY, _) => "partition: day of the event's own time, `YYYY-MM-DD` or `undated`",
            (_, Some(column)) => column.doc(),
            (_, None) => "",
        };
        let meanings: Vec<&str> = schema.fields().iter().map(|f| meaning(f.name())).collect();
        let mut list =
            vec![("column", names), ("type", types.iter().map(String::as_str).collect::<Vec<_>>())];
        if meanings.iter().any(|m| !m.is_empty()) {
            list.push(("meaning", meanings));
        }
        self.list(&list)
    }

    fn list(&self, columns: &[(&str, Vec<&str>)]) -> std::result::Result<LogicalPlan, Fatal> {
        let fields: Vec<Field> =
            columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, true)).collect();
        let text = |text: &&str| (!text.is_empty()).then(|| (*text).to_owned());
        let arrays = columns.iter().map(|(_, texts)| {
            Arc::new(texts.iter().map(text).collect::<StringArray>()) as datafusion::arrow::array::ArrayRef
        });
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays.collect())
            .map_err(DataFusionError::from)
            .and_then(|batch| self.context.read_batch(batch))
            .map(|frame| frame.logical_plan().clone())
            .map_err(|e| unexpected(&e))
    }
}

/// Code of a fault of ours or the engine's, or of an object that its decoder does not take.
pub(crate) const FAILED: &str = "Fatal.Query";

/// Such a fault.
pub(crate) fn unexpected(error: &DataFusionError) -> Fatal {
    Fatal::new(FAILED, format!("the query engine failed: {}", mistake::plain(error)))
}
