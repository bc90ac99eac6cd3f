//! Where the engine would give a wrong answer to what logs hold, or none: its own functions, put right.
//!
//! Sums of integers do not go round at 2^63. A span between two times is compared with an interval by its length, not
//! by its days. A time of year 0 does not keep `date_trunc` from the others. In: a session. Out: it knows these.

use std::sync::Arc;

use datafusion::arrow::array::types::TimestampMicrosecondType;
use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::functions::datetime::date_trunc;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Expr, ExprSchemable, GroupsAccumulator,
    ReturnFieldArgs, ReversedUDAF, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, VisitMut, VisitorMut};
use jiff::civil::{Date, date};
use jiff::{Span, Unit};

/// Puts a session's functions right.
pub(crate) fn register(context: &mut SessionContext) -> Result<()> {
    SessionContext::register_udaf(
        context,
        AggregateUDF::new_from_impl(Sum {
            of_engine: sum_udaf(),
            signature: Signature::user_defined(Volatility::Immutable),
        }),
    );
    SessionContext::register_udf(context, ScalarUDF::new_from_impl(DateTrunc { of_engine: date_trunc() }));
    FunctionRegistry::register_expr_planner(context, Arc::new(Spans))
}

/// `sum`, of integers as decimals.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    of_engine: Arc<AggregateUDF>,
    signature: Signature,
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        self.of_engine.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [of] = types else {
            return Err(DataFusionError::Plan("a `sum` is of one value".into()));
        };
        Ok(vec![match of {
            // Digits of the largest.
            t if t.is_integer() || t.is_null() => DataType::Decimal128(20, 0),
            t if t.is_floating() => DataType::Float64,
            t if t.is_numeric() => t.clone(),
            t @ (DataType::Duration(_) | DataType::Interval(_)) => t.clone(),
            t => {
                let t = crate::value::type_name(t);
                return Err(DataFusionError::Plan(format!("a `sum` is of numbers, found a {t}")));
            }
        }])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.of_engine.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.of_engine.accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.of_engine.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.of_engine.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.of_engine.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.of_engine.create_sliding_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// Comparisons of spans.
#[derive(Debug)]
struct Spans;

impl ExprPlanner for Spans {
    fn plan_binary_op(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_comparison = matches!(
            expr.op,
            BinaryOperator::Gt
                | BinaryOperator::GtEq
                | BinaryOperator::Lt
                | BinaryOperator::LtEq
                | BinaryOperator::Eq
                | BinaryOperator::NotEq
        );
        if is_comparison {
            match (expr.left.get_type(schema), expr.right.get_type(schema)) {
                (Ok(DataType::Duration(unit)), Ok(DataType::Interval(_))) => {
                    expr.right = span(&expr.right, unit)?;
                }
                (Ok(DataType::Interval(_)), Ok(DataType::Duration(unit))) => {
                    expr.left = span(&expr.left, unit)?;
                }
                _ => {}
            }
        }
        Ok(PlannerResult::Original(expr))
    }
}

const DAY_NANOS: i128 = 86_400_000_000_000;

/// An interval of so many days and less as a span.
fn span(interval: &Expr, unit: TimeUnit) -> Result<Expr> {
    let refused = |what: &str| {
        Err(DataFusionError::Plan(format!(
            "a span between two times is compared with {what}, as in `INTERVAL '36 hours'`"
        )))
    };
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(length)), _) = interval else {
        return refused("an interval that is written out");
    };
    if length.months != 0 {
        return refused("days, hours or less: months differ in length");
    }
    let nanos = i128::from(length.days) * DAY_NANOS + i128::from(length.nanoseconds);
    let of = |per_unit: i128| i64::try_from(nanos / per_unit).ok();
    let span = match unit {
        TimeUnit::Second => ScalarValue::DurationSecond(of(1_000_000_000)),
        TimeUnit::Millisecond => ScalarValue::DurationMillisecond(of(1_000_000)),
        TimeUnit::Microsecond => ScalarValue::DurationMicrosecond(of(1000)),
        TimeUnit::Nanosecond => ScalarValue::DurationNanosecond(of(1)),
    };
    Ok(Expr::Literal(span, None))
}

/// Has `BETWEEN` of intervals compared as two comparisons are.
pub(crate) fn compare_spans(statement: &mut ast::Statement) {
    struct Between;

    impl VisitorMut for Between {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> std::ops::ControlFlow<()> {
            if let ast::Expr::Between { expr: value, negated, low, high } = expr
                && [&low, &high].iter().any(|bound| matches!(****bound, ast::Expr::Interval(_)))
            {
                let compare = |op, bound: &ast::Expr| {
                    let of = |e: &ast::Expr| Box::new(ast::Expr::Nested(Box::new(e.clone())));
                    Box::new(ast::Expr::BinaryOp { left: of(value), op, right: Box::new(bound.clone()) })
                };
                let (from, and, to) = match negated {
                    false => (BinaryOperator::GtEq, BinaryOperator::And, BinaryOperator::LtEq),
                    true => (BinaryOperator::Lt, BinaryOperator::Or, BinaryOperator::Gt),
                };
                let both =
                    ast::Expr::BinaryOp { left: compare(from, low), op: and, right: compare(to, high) };
                *expr = ast::Expr::Nested(Box::new(both));
            }
            std::ops::ControlFlow::Continue(())
        }
    }

    let _all = statement.visit(&mut Between);
}

/// `date_trunc`, of microseconds in UTC by themselves: the engine's goes by nanoseconds, which hold the years 1677 to
/// 2262 alone.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc {
    of_engine: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.of_engine.name()
    }

    fn aliases(&self) -> &[String] {
        self.of_engine.aliases()
    }

    fn signature(&self) -> &Signature {
        self.of_engine.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.of_engine.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.of_engine.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let part = match args.args.first() {
            Some(ColumnarValue::Scalar(part)) => part.try_as_str().flatten().and_then(Part::of),
            _ => None,
        };
        let Some(part) = part else { return self.of_engine.invoke_with_args(args) };
        let trunc = |micros: i64| part.trunc(micros);
        Ok(match args.args.get(1) {
            Some(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(time, zone))) if is_utc(zone) => {
                let time = time.and_then(trunc);
                ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(time, zone.clone()))
            }
            Some(ColumnarValue::Array(times)) if matches!(times.data_type(), DataType::Timestamp(TimeUnit::Microsecond, zone) if is_utc(zone)) =>
            {
                let times = times.as_primitive::<TimestampMicrosecondType>();
                let zone: Option<Arc<str>> = times.timezone().map(Into::into);
                let truncated = times.unary_opt::<_, TimestampMicrosecondType>(trunc);
                ColumnarValue::Array(Arc::new(truncated.with_timezone_opt(zone)) as ArrayRef)
            }
            _ => return self.of_engine.invoke_with_args(args),
        })
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        self.of_engine.output_ordering(input)
    }
}

/// Whether times of a zone are those of UTC.
pub(crate) fn is_utc(zone: &Option<Arc<str>>) -> bool {
    zone.as_ref().is_none_or(|zone| matches!(&**zone, "UTC" | "+00:00" | "Z"))
}

/// What times are cut to.
#[derive(Clone, Copy)]
enum Part {
    /// So many microseconds.
    Micros(i64),
    /// From Monday on.
    Week,
    /// So many months, of twelve a year.
    Months(i8),
}

const DAY_MICROS: i64 = 86_400_000_000;

impl Part {
    fn of(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "microsecond" => Self::Micros(1),
            "millisecond" => Self::Micros(1000),
            "second" => Self::Micros(1_000_000),
            "minute" => Self::Micros(60_000_000),
            "hour" => Self::Micros(3_600_000_000),
            "day" => Self::Micros(DAY_MICROS),
            "week" => Self::Week,
            "month" => Self::Months(1),
            "quarter" => Self::Months(3),
            "year" => Self::Months(12),
            _ => return None,
        })
    }

    /// The start of the part that a time is in; none beyond the years -9999 to 9999.
    fn trunc(self, micros: i64) -> Option<i64> {
        if let Self::Micros(unit) = self {
            return micros.div_euclid(unit).checked_mul(unit);
        }
        let days = micros.div_euclid(DAY_MICROS);
        let start = match self {
            // 1970-01-01 was a Thursday.
            Self::Week => days - (days + 3).rem_euclid(7),
            Self::Micros(_) => days,
            Self::Months(months) => {
                let day: Date = EPOCH.checked_add(Span::new().try_days(days).ok()?).ok()?;
                let month = (day.month() - 1) / months * months + 1;
                let first = Date::new(day.year(), month, 1).ok()?;
                i64::from(first.since((Unit::Day, EPOCH)).ok()?.get_days())
            }
        };
        start.checked_mul(DAY_MICROS)
    }
}

const EPOCH: Date = date(1970, 1, 1);

#[cfg(test)]
mod tests {
    use keytrail_model::Timestamp;

    use super::*;

    #[test]
    fn times_are_cut_in_every_year() {
        let cut = |part: &str, time: &str| {
            let micros = Timestamp::parse(time).unwrap().0;
            Timestamp(Part::of(part).unwrap().trunc(micros).unwrap()).to_rfc3339()
        };
        for (part, time, start) in [
            ("hour", "0000-01-01T10:59:59.999999Z", "0000-01-01T10:00:00.000000Z"),
            ("day", "1969-12-31T23:59:59Z", "1969-12-31T00:00:00.000000Z"),
            ("week", "2023-07-16T23:00:00Z", "2023-07-10T00:00:00.000000Z"),
            ("week", "1969-12-31T01:00:00Z", "1969-12-29T00:00:00.000000Z"),
            ("month", "9999-12-31T23:59:59Z", "9999-12-01T00:00:00.000000Z"),
            ("quarter", "2024-09-30T12:00:00Z", "2024-07-01T00:00:00.000000Z"),
            ("YEAR", "0000-02-29T00:00:00Z", "0000-01-01T00:00:00.000000Z"),
            ("millisecond", "2024-02-29T00:00:00.123456Z", "2024-02-29T00:00:00.123000Z"),
        ] {
            assert_eq!(cut(part, time), start, "{part} of {time}");
        }
        assert_eq!(Part::Months(1).trunc(i64::MIN), None);
        assert_eq!(Part::Micros(DAY_MICROS).trunc(i64::MIN), None);
    }
}
