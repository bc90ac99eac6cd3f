//! The table `events`: the rows of the readable set, as Parquet objects have them.
//!
//! What it is: columns, which objects a scan reads, and what is known of them before they are read. What it is
//! not: the decoder, which is DataFusion's. In: an [`Archive`]. Out: scans.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use keytrail_model as model;

use crate::object::{Archive, Object};
use crate::prune::{Known, nulls};
use crate::reader::{Number, Readers};

/// The event's own time.
pub(crate) const TIMESTAMP: &str = model::Column::Timestamp.name();
/// Partition column: `event.dataset`.
pub(crate) const DATASET: &str = "dataset";
/// Partition column: the day of the event's own time, `YYYY-MM-DD`, or `undated`.
pub(crate) const DAY: &str = "day";

/// Statistics of each object are made for so many values at most: beyond it they would take more memory than
/// they save.
const MOST_STATISTICS: usize = 200_000;

/// The archive's columns, those of partitions last. Original bytes may hold secrets: they are there on request.
///
/// Texts are no views: a sort counts the pages that views hold once a batch, and asks for 30 times what it takes.
pub(crate) fn schema(raw: bool) -> SchemaRef {
    let columns = model::Column::ALL.into_iter().filter(|c| raw || *c != model::Column::EventOriginal);
    let fields = columns.map(|c| Field::new(c.name(), keytrail_archive::schema::data_type(c.kind()), true));
    Arc::new(Schema::new(fields.chain(partitions().map(|f| f.as_ref().clone())).collect::<Vec<_>>()))
}

fn partitions() -> impl Iterator<Item = FieldRef> {
    [DATASET, DAY].into_iter().map(|name| Arc::new(Field::new(name, DataType::Utf8, false)))
}

/// The table.
pub(crate) struct Events {
    archive: Arc<Archive>,
    known: Known,
    schema: SchemaRef,
}

impl Events {
    /// Of an archive; with original bytes, or without.
    pub fn new(archive: Arc<Archive>, raw: bool) -> Self {
        Self { known: Known::of(archive.objects()), archive, schema: schema(raw) }
    }

    /// The objects that filters leave, and whether all filters are decided by it.
    fn keep(&self, filters: &[Expr], props: &ExecutionProps) -> (Vec<usize>, bool) {
        let mut kept = vec![true; self.archive.objects().len()];
        let mut decided = true;
        for filter in filters {
            if let Some(mask) = self.known.decide(filter, props) {
                retain(&mut kept, &mask);
                continue;
            }
            decided = false;
            if let Some(mask) = self.known.may_match(filter, &self.schema, props) {
                retain(&mut kept, &mask);
            }
        }
        (kept.into_iter().enumerate().filter_map(|(n, keep)| keep.then_some(n)).collect(), decided)
    }

    fn file(&self, number: usize, columns: &SchemaRef, statistics: bool) -> PartitionedFile {
        let object = &self.archive.objects()[number];
        let text = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
        let file = PartitionedFile::new(&object.key, object.bytes)
            .with_extension(Number(number))
            .with_partition_values(vec![text(&object.dataset), text(&object.day)]);
        if !statistics {
            return file;
        }
        let mut known = Statistics::new_unknown(columns);
        known.num_rows = Precision::Exact(object.rows as usize);
        if let Ok(time) = columns.index_of(TIMESTAMP) {
            known.column_statistics[time] = times(std::slice::from_ref(&object));
        }
        file.with_statistics(Arc::new(known))
    }
}

fn retain(kept: &mut [bool], mask: &[bool]) {
    kept.iter_mut().zip(mask).for_each(|(keep, may)| *keep &= *may);
}

/// First and last time of objects, by their manifests.
fn times(objects: &[&Object]) -> ColumnStatistics {
    let time = |time: Option<i64>| match time {
        Some(_) => Precision::Exact(ScalarValue::TimestampMicrosecond(time, Some("UTC".into()))),
        None => Precision::Absent,
    };
    let missing: Option<usize> = objects.iter().map(|o| nulls(o)).sum();
    ColumnStatistics {
        null_count: missing.map_or(Precision::Absent, Precision::Exact),
        min_value: time(objects.iter().filter_map(|o| o.time_min).min()),
        max_value: time(objects.iter().filter_map(|o| o.time_max).max()),
        ..ColumnStatistics::new_unknown()
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("archive", &self.archive).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for Events {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let props = ExecutionProps::new();
        let support = |filter: &&Expr| match self.known.decide(filter, &props) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (mut kept, decided) = self.keep(filters, state.execution_props());
        if let Some(limit) = limit.filter(|_| decided) {
            let mut rows = 0;
            let enough = kept.iter().position(|n| {
                rows += self.archive.objects()[*n].rows;
                rows >= limit as u64
            });
            kept.truncate(enough.map_or(kept.len(), |last| last + 1));
        }
        self.archive.plan(&kept);
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        if kept.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(wanted)?))));
        }
        // Only the columns that are asked for: what is not there costs nothing per object.
        let of_files = self.schema.fields().len() - partitions().count();
        let mut columns: Vec<usize> = wanted.iter().copied().filter(|i| *i < of_files).collect();
        columns.sort_unstable();
        columns.dedup();
        let place = |index: &usize| match columns.binary_search(index) {
            Ok(place) => place,
            Err(_) => columns.len() + (index - of_files),
        };
        let places: Vec<usize> = wanted.iter().map(place).collect();
        let columns: SchemaRef = Arc::new(self.schema.project(&columns)?);
        let table = TableSchema::builder(Arc::clone(&columns))
            .with_table_partition_cols(partitions().collect::<Vec<_>>())
            .build();

        let statistics = kept.len() * (columns.fields().len() + 2) <= MOST_STATISTICS;
        let groups = state.config().target_partitions().clamp(1, kept.len());
        let mut files = vec![Vec::new(); groups];
        for (n, number) in kept.iter().enumerate() {
            files[n % groups].push(self.file(*number, &columns, statistics));
        }
        let mut known = Statistics::new_unknown(table.table_schema());
        let objects: Vec<&Object> = kept.iter().map(|n| &self.archive.objects()[*n]).collect();
        known.num_rows = Precision::Exact(objects.iter().map(|o| o.rows as usize).sum());
        if let Ok(time) = columns.index_of(TIMESTAMP) {
            known.column_statistics[time] = times(&objects);
        }
        let source = ParquetSource::new(table)
            .with_parquet_file_reader_factory(Arc::new(Readers(Arc::clone(&self.archive))))
            .with_pushdown_filters(true)
            .with_reorder_filters(true)
            .with_bloom_filter_on_read(false);
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(files.into_iter().map(FileGroup::new).collect())
            .with_statistics(known)
            .with_limit(limit.filter(|_| decided))
            .with_projection_indices(Some(places))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
