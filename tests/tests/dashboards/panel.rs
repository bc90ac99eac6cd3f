//! What dashboards are declared with: panels of buckets and figures, searches, controls.
//!
//! A column has one name everywhere: it is the id of Lens's column, the name of the aggregation, and the name of the
//! column in the SQL that must give the same rows.

use crate::filter::Filter;

/// Which of the data views is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// All events, by the time range that is set in Kibana.
    Events,
    /// Events without a time, whatever range is set.
    Undated,
}

/// A dashboard.
pub struct Dashboard {
    /// The saved object's id.
    pub id: &'static str,
    /// Its title, behind `keytrail: `.
    pub title: &'static str,
    /// What it answers.
    pub answers: &'static str,
    /// From when on it shows events when it is opened.
    pub from: &'static str,
    /// What a person chooses there: label and field.
    pub controls: Vec<(&'static str, &'static str)>,
    /// Its panels, row by row.
    pub panels: Vec<Panel>,
}

/// A panel.
pub struct Panel {
    /// Its title.
    pub title: &'static str,
    /// Of the 48 columns of a dashboard's grid.
    pub width: u64,
    /// In rows of the grid.
    pub height: u64,
    /// What it shows.
    pub shows: Shows,
}

/// What a panel shows.
pub enum Shows {
    /// Figures by buckets.
    Figures(Figures),
    /// A saved search, by its id.
    Search(&'static str),
}

/// Figures of the events of a filter, by buckets.
pub struct Figures {
    /// How they are drawn.
    pub form: Form,
    /// Where they are asked for.
    pub view: View,
    /// Which events.
    pub filter: Filter,
    /// From the outermost to the innermost.
    pub buckets: Vec<Bucket>,
    /// The first is the number of events wherever buckets are ordered by it.
    pub figures: Vec<Figure>,
    /// The same rows from the archive: by DuckDB, over the tables `events` and `undated`, with the columns' names.
    pub sql: &'static str,
}

/// How figures are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One number.
    Metric,
    /// Stacked bars: the last bucket is the axis, the one before it is the colour.
    Bars,
    /// A table.
    Table,
}

/// What events are put together by.
pub struct Bucket {
    /// The column.
    pub name: &'static str,
    /// What stands above it.
    pub label: &'static str,
    /// By what.
    pub by: By,
}

/// By what events are put together.
pub enum By {
    /// The most frequent values of a field, so many.
    Values(&'static str, u64),
    /// Spans of time: the field, and how long (`auto`: as Kibana finds fit).
    Time(&'static str, &'static str),
    /// Filters with labels; an event may fulfil several.
    Filters(Vec<(&'static str, Filter)>),
}

/// A figure.
pub struct Figure {
    /// The column.
    pub name: &'static str,
    /// What stands above it.
    pub label: &'static str,
    /// What is computed.
    pub of: Of,
}

/// What is computed of a bucket's events.
pub enum Of {
    /// How many there are.
    Count,
    /// How many of them fulfil a filter.
    CountWhere(Filter),
    /// How many values a field has among them.
    Unique(&'static str),
    /// The smallest value of a field.
    Min(&'static str),
    /// The largest value of a field.
    Max(&'static str),
}

/// A saved search.
pub struct Search {
    /// The saved object's id.
    pub id: &'static str,
    /// Its title, behind `keytrail: `.
    pub title: &'static str,
    /// What it finds.
    pub finds: &'static str,
    /// Where it searches.
    pub view: View,
    /// Which events.
    pub filter: Filter,
    /// The columns of its table, behind the time.
    pub columns: Vec<&'static str>,
    /// What it is ordered by, newest first.
    pub by: &'static str,
    /// The same events from the archive: a condition on the table of its view.
    pub sql: &'static str,
}

impl Panel {
    /// A panel of figures.
    pub fn of(title: &'static str, (width, height): (u64, u64), figures: Figures) -> Self {
        Self { title, width, height, shows: Shows::Figures(figures) }
    }

    /// A search over the whole width.
    pub fn search(title: &'static str, id: &'static str) -> Self {
        Self { title, width: 48, height: 18, shows: Shows::Search(id) }
    }
}

/// One number, a quarter of a row.
pub fn metric(title: &'static str, filter: Filter, figure: Figure, sql: &'static str) -> Panel {
    let figures = Figures {
        form: Form::Metric,
        view: View::Events,
        filter,
        buckets: vec![],
        figures: vec![figure],
        sql,
    };
    Panel::of(title, (12, 6), figures)
}

/// How many events there are over time, by the values of a field, over the whole width.
pub fn over_time(
    title: &'static str,
    filter: Filter,
    split: Bucket,
    time: Bucket,
    sql: &'static str,
) -> Panel {
    let (form, buckets) = (Form::Bars, vec![split, time]);
    let figures =
        Figures { form, view: View::Events, filter, buckets, figures: vec![count("events", "Events")], sql };
    Panel::of(title, (48, 12), figures)
}

/// A table, half of a row.
pub fn table(
    title: &'static str,
    filter: Filter,
    buckets: impl Into<Vec<Bucket>>,
    figures: impl Into<Vec<Figure>>,
    sql: &'static str,
) -> Panel {
    let (buckets, figures) = (buckets.into(), figures.into());
    let figures = Figures { form: Form::Table, view: View::Events, filter, buckets, figures, sql };
    Panel::of(title, (24, 14), figures)
}

impl Panel {
    /// The same in the other data view.
    pub fn undated(mut self) -> Self {
        if let Shows::Figures(figures) = &mut self.shows {
            figures.view = View::Undated;
        }
        self
    }

    /// The same over the whole width.
    pub fn wide(self) -> Self {
        Self { width: 48, ..self }
    }
}

/// The most frequent values of a field.
pub fn values(name: &'static str, label: &'static str, field: &'static str, most: u64) -> Bucket {
    Bucket { name, label, by: By::Values(field, most) }
}

/// Spans of an event's own time.
pub fn time() -> Bucket {
    Bucket { name: "time", label: "Time", by: By::Time("@timestamp", "auto") }
}

/// How many events there are.
pub fn count(name: &'static str, label: &'static str) -> Figure {
    Figure { name, label, of: Of::Count }
}

/// How many of them fulfil a filter.
pub fn count_of(name: &'static str, label: &'static str, filter: Filter) -> Figure {
    Figure { name, label, of: Of::CountWhere(filter) }
}

/// How many values a field has among them.
pub fn unique(name: &'static str, label: &'static str, field: &'static str) -> Figure {
    Figure { name, label, of: Of::Unique(field) }
}

/// The smallest value of a field.
pub fn min(name: &'static str, label: &'static str, field: &'static str) -> Figure {
    Figure { name, label, of: Of::Min(field) }
}

/// The largest value of a field.
pub fn max(name: &'static str, label: &'static str, field: &'static str) -> Figure {
    Figure { name, label, of: Of::Max(field) }
}

impl Figures {
    /// All fields that it asks for.
    pub fn fields(&self) -> Vec<&'static str> {
        let mut fields = self.filter.fields();
        for bucket in &self.buckets {
            match &bucket.by {
                By::Values(field, _) | By::Time(field, _) => fields.push(field),
                By::Filters(filters) => fields.extend(filters.iter().flat_map(|(_, f)| f.fields())),
            }
        }
        for figure in &self.figures {
            match &figure.of {
                Of::Count => {}
                Of::CountWhere(filter) => fields.extend(filter.fields()),
                Of::Unique(field) | Of::Min(field) | Of::Max(field) => fields.push(field),
            }
        }
        fields
    }
}
