//! Which objects a statement has to read: by dataset and day, and by the times that manifests give.
//!
//! What it is: a filter is evaluated on what is known of each object before any is opened. One that is about
//! `dataset` and `day` alone is decided for good. In any other, each part that grows with `timestamp` (a cast to a
//! date, `date_trunc`, ...) has a least and a greatest value in an object: those of its first and last time.
//! What it is not: row groups and pages are pruned by the Parquet scan. In: filters, [`Object`]s. Out: masks.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use crate::events::{DATASET, DAY, TIMESTAMP};
use crate::exact::is_utc;
use crate::object::Object;

/// What is known of objects, as columns.
pub(crate) struct Known {
    datasets: ArrayRef,
    days: ArrayRef,
    times_min: ArrayRef,
    times_max: ArrayRef,
    rows: ArrayRef,
    nulls: ArrayRef,
}

impl Known {
    /// Of these objects.
    pub fn of(objects: &[Object]) -> Self {
        let times = |time: fn(&Object) -> Option<i64>| {
            let times: TimestampMicrosecondArray = objects.iter().map(time).collect();
            Arc::new(times.with_timezone("UTC")) as ArrayRef
        };
        Self {
            datasets: Arc::new(StringArray::from_iter_values(objects.iter().map(|o| &o.dataset))),
            days: Arc::new(StringArray::from_iter_values(objects.iter().map(|o| &o.day))),
            times_min: times(|o| o.time_min),
            times_max: times(|o| o.time_max),
            rows: Arc::new(UInt64Array::from_iter_values(objects.iter().map(|o| o.rows))),
            nulls: Arc::new(objects.iter().map(|o| nulls(o).map(|n| n as u64)).collect::<UInt64Array>()),
        }
    }

    /// Which objects a filter keeps, where it is about dataset and day alone and can be evaluated.
    pub fn decide(&self, filter: &Expr, props: &ExecutionProps) -> Option<Vec<bool>> {
        let filter = unnormalize_col(filter.clone());
        let columns = filter.column_refs();
        let decided = !columns.is_empty()
            && columns.iter().all(|c| c.name == DATASET || c.name == DAY)
            && !filter.is_volatile()
            && !has_subquery(&filter);
        if !decided {
            return None;
        }
        let schema = schema(&[(DATASET, DataType::Utf8), (DAY, DataType::Utf8)]);
        let columns = vec![Arc::clone(&self.datasets), Arc::clone(&self.days)];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).ok()?;
        let expr = physical(&filter, &schema, props).ok()?;
        let mask = expr.evaluate(&batch).ok()?.into_array(self.days.len()).ok()?;
        // Neither true nor false is not kept.
        Some(mask.as_any().downcast_ref::<BooleanArray>()?.iter().map(|keep| keep == Some(true)).collect())
    }

    /// Which objects may have rows that a filter keeps; `None`: nothing is known.
    pub fn may_match(&self, filter: &Expr, table: &SchemaRef, props: &ExecutionProps) -> Option<Vec<bool>> {
        let filter = unnormalize_col(filter.clone());
        if has_subquery(&filter) {
            return None;
        }
        let parts = Parts::of(filter, table, self, props).ok()?;
        let predicate = physical(&parts.filter, &parts.schema, props).ok()?;
        let predicate =
            PruningPredicateBuilder::new().with_file_schema(Arc::clone(&parts.schema)).build(predicate)?;
        predicate.prune(&parts).ok()
    }
}

/// Rows of an object that have no time, where that is known.
pub(crate) fn nulls(object: &Object) -> Option<usize> {
    match object.time_min {
        None => Some(object.rows as usize),
        // A day comes of the event's own time.
        Some(_) if object.day != UNDATED => Some(0),
        Some(_) => None,
    }
}

/// The day of events without a place in time.
const UNDATED: &str = "undated";

/// A filter in which each part that grows with the time is a column of its own.
struct Parts<'a> {
    filter: Expr,
    schema: SchemaRef,
    known: &'a Known,
    bounds: Vec<(String, ArrayRef, ArrayRef)>,
}

impl<'a> Parts<'a> {
    fn of(filter: Expr, table: &SchemaRef, known: &'a Known, props: &ExecutionProps) -> Result<Self> {
        let df_schema = DFSchema::try_from(Arc::clone(table))?;
        let mut parts: Vec<(String, Expr)> = Vec::new();
        let filter = filter
            .transform_down(|expr| {
                if matches!(expr, Expr::Column(_)) || !grows_with_time(&expr) {
                    return Ok(Transformed::no(expr));
                }
                let name = format!("part {}", parts.len());
                parts.push((name.clone(), expr));
                let column = Expr::Column(Column::new_unqualified(name));
                Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
            })?
            .data;
        let mut fields: Vec<Field> = table.fields().iter().map(|f| f.as_ref().clone()).collect();
        let mut bounds = Vec::new();
        let time_only = schema(&[(TIMESTAMP, known.times_min.data_type().clone())]);
        for (name, part) in parts {
            fields.push(Field::new(&name, part.get_type(&df_schema)?, true));
            let expr = physical(&part, &time_only, props)?;
            let at = |times: &ArrayRef| -> Result<ArrayRef> {
                let batch = RecordBatch::try_new(Arc::clone(&time_only), vec![Arc::clone(times)])?;
                expr.evaluate(&batch)?.into_array(times.len())
            };
            bounds.push((name, at(&known.times_min)?, at(&known.times_max)?));
        }
        Ok(Self { filter, schema: Arc::new(Schema::new(fields)), known, bounds })
    }
}

impl PruningStatistics for Parts<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            DATASET => Some(Arc::clone(&self.known.datasets)),
            DAY => Some(Arc::clone(&self.known.days)),
            TIMESTAMP => Some(Arc::clone(&self.known.times_min)),
            part => self.bounds.iter().find(|(name, ..)| name == part).map(|(_, min, _)| Arc::clone(min)),
        }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            DATASET | DAY => self.min_values(column),
            TIMESTAMP => Some(Arc::clone(&self.known.times_max)),
            part => self.bounds.iter().find(|(name, ..)| name == part).map(|(.., max)| Arc::clone(max)),
        }
    }

    fn num_containers(&self) -> usize {
        self.known.rows.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        (column.name() == TIMESTAMP).then(|| Arc::clone(&self.known.nulls))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::clone(&self.known.rows))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Whether an expression is about `timestamp` alone, and never gets less as that gets greater.
fn grows_with_time(expr: &Expr) -> bool {
    match expr {
        Expr::Column(column) => column.name == TIMESTAMP,
        Expr::Alias(alias) => grows_with_time(&alias.expr),
        Expr::Cast(cast) => grows_with_time(&cast.expr) && is_time(cast.field.data_type()),
        Expr::TryCast(cast) => grows_with_time(&cast.expr) && is_time(cast.field.data_type()),
        Expr::BinaryExpr(binary) => {
            matches!(binary.op, Operator::Plus | Operator::Minus)
                && grows_with_time(&binary.left)
                && is_interval(&binary.right)
        }
        Expr::ScalarFunction(function) => match (function.name(), function.args.as_slice()) {
            ("date_trunc" | "date_bin", [Expr::Literal(..), time]) => grows_with_time(time),
            ("date_bin", [Expr::Literal(..), time, Expr::Literal(..)]) => grows_with_time(time),
            ("date_part", [Expr::Literal(part, _), time]) => {
                matches!(part, ScalarValue::Utf8(Some(p)) | ScalarValue::Utf8View(Some(p)) if p.eq_ignore_ascii_case("year"))
                    && grows_with_time(time)
            }
            _ => false,
        },
        _ => false,
    }
}

/// Days and hours of another zone than UTC can come twice.
fn is_time(data_type: &DataType) -> bool {
    match data_type {
        DataType::Date32 | DataType::Date64 => true,
        DataType::Timestamp(_, zone) => is_utc(zone),
        _ => false,
    }
}

fn is_interval(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if matches!(value.data_type(), DataType::Interval(_) | DataType::Duration(_)))
}

fn has_subquery(expr: &Expr) -> bool {
    let subquery = |e: &Expr| {
        Ok(matches!(
            e,
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::OuterReferenceColumn(..)
        ))
    };
    expr.exists(subquery).unwrap_or(true)
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields: Vec<Field> = columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

fn physical(expr: &Expr, schema: &SchemaRef, props: &ExecutionProps) -> Result<Arc<dyn PhysicalExpr>> {
    let schema = DFSchema::try_from(Arc::clone(schema))?;
    create_physical_expr(expr, &schema, props, &PhysicalPlanningContext::default())
}
