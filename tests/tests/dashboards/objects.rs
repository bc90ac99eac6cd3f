//! Saved objects of Kibana, as its import takes them: data views, searches, dashboards.
//!
//! The versions are those of published exports of May 2025, when Kibana 8.18 and 9.0 were current. A newer Kibana
//! brings them forward by itself; an older one refuses them.

use serde_json::{Map, Value, json};

use crate::declared::{dashboards, searches};
use crate::lens::{LAYER, attributes, kuery};
use crate::panel::{Dashboard, Panel, Search, Shows, View};

const CORE: &str = "8.8.0";
const DASHBOARD: &str = "10.2.0";
const SEARCH: &str = "10.5.0";
const DATA_VIEW: &str = "8.0.0";

/// Columns of a dashboard's grid.
const GRID: u64 = 48;

impl View {
    /// Its saved object's id.
    pub fn id(self) -> &'static str {
        match self {
            Self::Events => "keytrail-events",
            Self::Undated => "keytrail-undated",
        }
    }

    /// The indices that it is of.
    fn indices(self) -> &'static str {
        match self {
            Self::Events => "keytrail",
            Self::Undated => "keytrail-*-undated,-keytrail-deadletter-*",
        }
    }
}

/// All of them, one a line.
pub fn ndjson() -> String {
    let views = [View::Events, View::Undated].into_iter().map(data_view);
    let searches = searches();
    let dashboards = dashboards();
    views
        .chain(searches.iter().map(search))
        .chain(dashboards.iter().map(dashboard))
        .map(|object| text(object) + "\n")
        .collect()
}

/// JSON whose keys ascend, whatever features `serde_json` was built with.
pub fn text(mut value: Value) -> String {
    value.sort_all_objects();
    value.to_string()
}

fn object(kind: &str, id: &str, version: &str, attributes: Value, references: Vec<Value>) -> Value {
    json!({
        "type": kind, "id": id, "attributes": attributes, "references": references,
        "coreMigrationVersion": CORE, "typeMigrationVersion": version, "managed": false,
    })
}

fn reference(kind: &str, id: &str, name: &str) -> Value {
    json!({"type": kind, "id": id, "name": name})
}

fn data_view(view: View) -> Value {
    let mut attributes = json!({
        "title": view.indices(),
        "name": match view { View::Events => "keytrail", View::Undated => "keytrail: events without a time" },
        "fields": "[]", "fieldAttrs": "{}", "fieldFormatMap": "{}", "runtimeFieldMap": "{}", "sourceFilters": "[]",
        "typeMeta": "{}",
        // It can be imported before the first event comes.
        "allowNoIndex": true,
    });
    if view == View::Events {
        attributes["timeFieldName"] = "@timestamp".into();
    }
    object("index-pattern", view.id(), DATA_VIEW, attributes, vec![])
}

fn search(search: &Search) -> Value {
    const INDEX: &str = "kibanaSavedObjectMeta.searchSourceJSON.index";
    let source = json!({"query": kuery(&search.filter.kql()), "filter": [], "indexRefName": INDEX});
    let attributes = json!({
        "title": format!("keytrail: {}", search.title),
        "description": search.finds,
        "columns": search.columns,
        "sort": [[search.by, "desc"]],
        "grid": {},
        "hideChart": false,
        "isTextBasedQuery": false,
        "timeRestore": false,
        "kibanaSavedObjectMeta": {"searchSourceJSON": text(source)},
    });
    object("search", search.id, SEARCH, attributes, vec![reference("index-pattern", search.view.id(), INDEX)])
}

fn dashboard(dashboard: &Dashboard) -> Value {
    let mut references = Vec::new();
    let panels: Vec<Value> = placed(&dashboard.panels)
        .into_iter()
        .enumerate()
        .map(|(n, (panel, grid))| placed_panel(&format!("panel-{n}"), panel, grid, &mut references))
        .collect();
    let mut controls = Map::new();
    for (n, (label, field)) in dashboard.controls.iter().enumerate() {
        let id = format!("control-{n}");
        let input = json!({
            "id": id, "fieldName": field, "title": label, "selectedOptions": [], "enhancements": {},
            "searchTechnique": "prefix", "sort": {"by": "_count", "direction": "desc"},
        });
        let control = json!({
            "type": "optionsListControl", "order": n, "width": "medium", "grow": true, "explicitInput": input,
        });
        let name = format!("controlGroup_{id}:optionsListDataView");
        references.push(reference("index-pattern", View::Events.id(), &name));
        controls.insert(id, control);
    }
    let ignored = json!({
        "ignoreFilters": false, "ignoreQuery": false, "ignoreTimerange": false, "ignoreValidations": false,
    });
    let options = json!({
        "useMargins": true, "syncColors": true, "syncCursor": true, "syncTooltips": false, "hidePanelTitles": false,
    });
    let attributes = json!({
        "title": format!("keytrail: {}", dashboard.title),
        "description": dashboard.answers,
        "timeRestore": true, "timeFrom": dashboard.from, "timeTo": "now",
        "refreshInterval": {"pause": true, "value": 60000},
        "controlGroupInput": {
            "chainingSystem": "HIERARCHICAL", "controlStyle": "oneLine", "showApplySelections": false,
            "ignoreParentSettingsJSON": text(ignored), "panelsJSON": text(Value::Object(controls)),
        },
        "kibanaSavedObjectMeta": {"searchSourceJSON": text(json!({"query": kuery(""), "filter": []}))},
        "optionsJSON": text(options),
        "panelsJSON": text(Value::Array(panels)),
    });
    object("dashboard", dashboard.id, DASHBOARD, attributes, references)
}

fn placed_panel(index: &str, panel: &Panel, mut grid: Value, references: &mut Vec<Value>) -> Value {
    grid["i"] = index.into();
    let mut placed = json!({"panelIndex": index, "gridData": grid, "title": panel.title});
    match &panel.shows {
        Shows::Figures(figures) => {
            let id = figures.view.id();
            let name = format!("{index}:indexpattern-datasource-layer-{LAYER}");
            references.push(reference("index-pattern", id, &name));
            placed["type"] = "lens".into();
            placed["embeddableConfig"] = json!({"attributes": attributes(figures, id), "enhancements": {}});
        }
        Shows::Search(id) => {
            references.push(reference("search", id, &format!("{index}:panel_{index}")));
            placed["type"] = "search".into();
            placed["embeddableConfig"] = json!({"enhancements": {}});
            placed["panelRefName"] = format!("panel_{index}").into();
        }
    }
    placed
}

/// Panels from left to right, row by row; the last of a row takes what is left of it.
fn placed(panels: &[Panel]) -> Vec<(&Panel, Value)> {
    let mut rows: Vec<Vec<&Panel>> = Vec::new();
    for panel in panels {
        match rows.last_mut() {
            Some(row) if row.iter().map(|p| p.width).sum::<u64>() + panel.width <= GRID => row.push(panel),
            _ => rows.push(vec![panel]),
        }
    }
    let mut y = 0;
    let mut placed = Vec::new();
    for row in rows {
        let height = row.iter().map(|p| p.height).max().unwrap_or_default();
        let mut x = 0;
        for (n, panel) in row.iter().enumerate() {
            let width = if n + 1 == row.len() { GRID - x } else { panel.width };
            placed.push((*panel, json!({"x": x, "y": y, "w": width, "h": height})));
            x += width;
        }
        y += height;
    }
    placed
}
