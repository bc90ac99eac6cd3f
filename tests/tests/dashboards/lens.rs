//! A panel of figures as Lens keeps it: columns of its form-based data source, and how they are drawn.

use keytrail_index::{Target, mapping};
use serde_json::{Map, Value, json};

use crate::panel::{Bucket, By, Figure, Figures, Form, Of};

/// The one layer of a panel.
pub const LAYER: &str = "events";

/// What is counted: records, whatever they hold.
const RECORDS: &str = "___records___";

/// The attributes of a panel's Lens, which stand in the dashboard itself.
pub fn attributes(figures: &Figures, view_id: &str) -> Value {
    let columns: Map<String, Value> = figures
        .buckets
        .iter()
        .map(|bucket| (bucket.name.to_owned(), bucket_column(bucket, figures)))
        .chain(figures.figures.iter().map(|figure| (figure.name.to_owned(), figure_column(figure))))
        .collect();
    let layer = json!({
        "columnOrder": names(figures), "columns": columns, "ignoreGlobalFilters": false, "incompleteColumns": {},
        "sampling": 1,
    });
    json!({
        "title": "",
        "type": "lens",
        "visualizationType": match figures.form {
            Form::Metric => "lnsMetric",
            Form::Bars => "lnsXY",
            Form::Table => "lnsDatatable",
        },
        "references": [{
            "type": "index-pattern", "id": view_id, "name": format!("indexpattern-datasource-layer-{LAYER}"),
        }],
        "state": {
            "adHocDataViews": {},
            "datasourceStates": {
                "formBased": {"layers": {LAYER: layer}},
                "indexpattern": {"layers": {}},
                "textBased": {"layers": {}},
            },
            "filters": [],
            "internalReferences": [],
            "query": kuery(&figures.filter.kql()),
            "visualization": visualization(figures),
        },
    })
}

/// A query in Kibana's language.
pub fn kuery(query: &str) -> Value {
    json!({"language": "kuery", "query": query})
}

fn names(figures: &Figures) -> Vec<&'static str> {
    figures.buckets.iter().map(|b| b.name).chain(figures.figures.iter().map(|f| f.name)).collect()
}

fn visualization(figures: &Figures) -> Value {
    let mut drawn = match figures.form {
        Form::Metric => json!({"metricAccessor": figures.figures[0].name}),
        Form::Bars => {
            let [split, axis] = figures.buckets.as_slice() else { panic!("bars have two buckets") };
            return json!({
                "layers": [{
                    "layerId": LAYER, "layerType": "data", "seriesType": "bar_stacked", "position": "top",
                    "showGridlines": false, "xAccessor": axis.name, "splitAccessor": split.name,
                    "accessors": figures.figures.iter().map(|f| f.name).collect::<Vec<_>>(),
                }],
                "legend": {"isVisible": true, "position": "right"},
                "preferredSeriesType": "bar_stacked",
                "valueLabels": "hide",
            });
        }
        Form::Table => {
            let column =
                |name, is_metric| json!({"columnId": name, "isMetric": is_metric, "isTransposed": false});
            let buckets = figures.buckets.iter().map(|b| column(b.name, false));
            let columns: Vec<Value> =
                buckets.chain(figures.figures.iter().map(|f| column(f.name, true))).collect();
            json!({"columns": columns, "paging": {"enabled": true, "size": 10}})
        }
    };
    drawn["layerId"] = LAYER.into();
    drawn["layerType"] = "data".into();
    drawn
}

fn bucket_column(bucket: &Bucket, figures: &Figures) -> Value {
    let mut column = json!({"customLabel": true, "label": bucket.label, "isBucketed": true});
    let (operation, kind, scale, params) = match &bucket.by {
        By::Values(field, most) => {
            let by = figures.figures.iter().find(|f| matches!(f.of, Of::Count)).expect("a count to order by");
            column["sourceField"] = (*field).into();
            let params = json!({
                "size": most,
                "orderBy": {"type": "column", "columnId": by.name},
                "orderDirection": "desc",
                "otherBucket": false,
                "missingBucket": false,
                "parentFormat": {"id": "terms"},
                "include": [], "exclude": [], "includeIsRegex": false, "excludeIsRegex": false,
                // Each shard tells its 1,000 most frequent values, so that no count of those is an estimate.
                "accuracyMode": true,
            });
            ("terms", kind_of(field), "ordinal", params)
        }
        By::Time(field, every) => {
            column["sourceField"] = (*field).into();
            let empty = figures.form == Form::Bars;
            let mut params = json!({"interval": every, "includeEmptyRows": empty, "dropPartials": false});
            if *field != "@timestamp" {
                // Otherwise the range of time that a person sets would be one of this field, and not of the events'
                // own time. Kibana has no `auto` for it.
                params["ignoreTimeRange"] = true.into();
            }
            ("date_histogram", "date", "interval", params)
        }
        By::Filters(filters) => {
            let filters: Vec<Value> = filters
                .iter()
                .map(|(label, filter)| json!({"label": label, "input": kuery(&filter.kql())}))
                .collect();
            ("filters", "string", "ordinal", json!({"filters": filters}))
        }
    };
    column["operationType"] = operation.into();
    column["dataType"] = kind.into();
    column["scale"] = scale.into();
    column["params"] = params;
    column
}

fn figure_column(figure: &Figure) -> Value {
    let (operation, field, kind) = match &figure.of {
        Of::Count | Of::CountWhere(_) => ("count", RECORDS, "number"),
        Of::Unique(field) => ("unique_count", *field, "number"),
        Of::Min(field) => ("min", *field, kind_of(field)),
        Of::Max(field) => ("max", *field, kind_of(field)),
    };
    let mut column = json!({
        "customLabel": true, "label": figure.label, "isBucketed": false, "operationType": operation, "dataType": kind,
        "scale": "ratio", "sourceField": field, "params": {"emptyAsNull": matches!(figure.of, Of::Min(_) | Of::Max(_))},
    });
    if let Of::CountWhere(filter) = &figure.of {
        column["filter"] = kuery(&filter.kql());
    }
    column
}

/// What Kibana calls the type of a field.
pub fn kind_of(field: &str) -> &'static str {
    let mapping = mapping(Target::Elasticsearch);
    let found = field.split('.').fold(&mapping, |at, segment| &at["properties"][segment]);
    match found["type"].as_str() {
        Some("keyword" | "text") => "string",
        Some("long") => "number",
        Some("boolean") => "boolean",
        Some("date") => "date",
        Some("ip") => "ip",
        other => panic!("`{field}` is not a field of documents: {other:?}"),
    }
}
