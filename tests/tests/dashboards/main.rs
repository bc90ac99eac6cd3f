//! `infra/elasticsearch`: files for a search server and for Kibana, made here from one source and from the code that
//! installs templates.
//!
//! What it is: the declaration of dashboards (`declared`), the saved objects that follow from it, and the proof that
//! every panel shows what is in the archive: its query runs on real servers, its SQL on the archive's files. What it is
//! not: a test of Kibana, which is not to be had here. With `KEYTRAIL_BLESS=1` in the environment the files are written
//! anew.

mod ask;
mod declared;
mod filter;
mod lens;
mod objects;
mod panel;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use keytrail_index::{
    Component, Namespace, Target, components, dead_letter_template, index_template, policy, policy_name,
};
use keytrail_model::{ActionClass, Hash};
use keytrail_tests::oracle::oracle;
use keytrail_tests::search_server::{Kind, SearchServer, namespace};
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number, text};
use serde_json::{Value, json};

use crate::ask::{Rows, Shown};
use crate::declared::{TERMS, dashboards, searches};
use crate::filter::Filter;
use crate::panel::{By, Figures, Of, Search, Shows, View};

/// Everything that has a time.
const EVER: (&str, &str) = ("2006-01-01T00:00:00.000Z", "2100-01-01T00:00:00.000Z");

/// Some hours of an attack, which is in the examples.
const SOME_HOURS: (&str, &str) = ("2023-07-10T11:00:00.000Z", "2023-07-10T12:20:00.000Z");

/// 400 days.
const RETENTION: Duration = Duration::from_secs(400 * 86_400);

fn folder() -> PathBuf {
    tools::root().join("infra/elasticsearch")
}

/// What the folder holds that is made from code, by its path there.
fn made() -> BTreeMap<String, String> {
    let mut made = BTreeMap::from([("kibana/keytrail.ndjson".to_owned(), objects::ndjson())]);
    for target in [Target::Elasticsearch, Target::OpenSearch] {
        for (path, mut body) in templates(target).into_iter().chain(policies(target)) {
            body.sort_all_objects();
            let text = serde_json::to_string_pretty(&body).expect("JSON") + "\n";
            made.insert(format!("{}/{path}.json", of(target)), text);
        }
    }
    made
}

fn of(target: Target) -> &'static str {
    match target {
        Target::Elasticsearch => "elasticsearch",
        Target::OpenSearch => "opensearch",
    }
}

/// Templates that `keytrail index setup` puts on a server, by the path that it puts them under.
fn templates(target: Target) -> Vec<(String, Value)> {
    let parts = components(target)
        .into_iter()
        .map(|Component { name, body }| (format!("_component_template/{name}"), body));
    let whole = [("keytrail", index_template()), ("keytrail-deadletter", dead_letter_template())];
    let whole = whole.into_iter().map(|(name, body)| (format!("_index_template/{name}"), body));
    let tagged = |(path, mut body): (String, Value)| {
        let hash = Hash::of(body.to_string().as_bytes()).to_hex();
        body["_meta"]["sha256"] = hash.into();
        (path, body)
    };
    parts.chain(whole).map(tagged).collect()
}

/// Lifecycle policies that it puts there for the default namespace and a retention as in the template of `keytrail.toml`.
fn policies(target: Target) -> Vec<(String, Value)> {
    let name = policy_name(&Namespace::default());
    match target {
        Target::Elasticsearch => vec![(format!("_ilm/policy/{name}"), policy(RETENTION))],
        Target::OpenSearch => vec![],
    }
}

#[test]
fn the_files_are_what_the_code_makes() {
    let bless = std::env::var_os("KEYTRAIL_BLESS").is_some();
    for (path, text) in made() {
        let file = folder().join(&path);
        if bless {
            fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            fs::write(&file, &text).expect("written");
        }
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert!(found == text, "infra/elasticsearch/{path} is out of date: run with KEYTRAIL_BLESS=1");
    }
    let page = fs::read_to_string(folder().join("README.md")).expect("a page");
    let (dashboards, searches) = (dashboards(), searches());
    let panels: usize = dashboards.iter().map(|d| d.panels.len()).sum();
    let counts = format!(
        "2 data views, {} searches, {} dashboards with {panels} panels",
        searches.len(),
        dashboards.len()
    );
    assert!(page.contains(&counts), "README.md does not say `{counts}`");
    for dashboard in dashboards {
        assert!(page.contains(dashboard.title), "README.md does not name `{}`", dashboard.title);
    }
}

/// The form is written down in `tests/fixtures/kibana`, from what is published of Kibana.
#[test]
fn saved_objects_have_the_published_form() {
    let file = folder().join("kibana/keytrail.ndjson");
    let counts = oracle("saved_objects", [tools::root().join("tests/fixtures/kibana"), file]);
    let panels: usize = dashboards().iter().map(|d| d.panels.len()).sum();
    let expected = json!({
        "index-pattern": 2, "search": searches().len(), "dashboard": dashboards().len(), "panels": panels,
    });
    assert_eq!(counts, expected);
}

/// As Elasticsearch's specification has it: phases with an age and actions, and what is nobody's but ours.
#[test]
fn the_lifecycle_policy_has_the_published_form() {
    for (path, policy) in policies(Target::Elasticsearch) {
        assert_eq!(path, "_ilm/policy/keytrail-default");
        let keys = |value: &Value| -> Vec<String> {
            value.as_object().expect("an object").keys().cloned().collect()
        };
        assert_eq!(keys(&policy), ["policy"]);
        assert!(
            keys(&policy["policy"]).iter().all(|key| ["_meta", "phases"].contains(&key.as_str())),
            "{policy}"
        );
        let phases = policy["policy"]["phases"].as_object().expect("phases");
        assert!(
            phases.keys().all(|name| ["hot", "warm", "cold", "frozen", "delete"].contains(&name.as_str()))
        );
        for phase in phases.values() {
            assert_eq!(keys(phase), ["actions", "min_age"]);
            let age =
                phase["min_age"].as_str().expect("an age").trim_start_matches(|c: char| c.is_ascii_digit());
            assert!(["ms", "s", "m", "h", "d"].contains(&age), "{phase}");
        }
        assert_eq!(phases["delete"]["actions"], json!({"delete": {}}));
    }
}

#[test]
fn panels_ask_for_fields_that_documents_have() {
    for dashboard in dashboards() {
        for (_, field) in &dashboard.controls {
            assert_eq!(lens::kind_of(field), "string", "{field}");
        }
    }
    for (_, figures) in panels() {
        for field in figures.fields() {
            lens::kind_of(field);
        }
        let mut names = BTreeSet::new();
        let mut first = figures.buckets.iter().map(|b| b.name).chain(figures.figures.iter().map(|f| f.name));
        assert!(first.all(|name| names.insert(name)), "a name twice: {names:?}");
        let ordered = figures.buckets.iter().any(|b| matches!(b.by, By::Values(..)));
        assert!(!ordered || matches!(figures.figures[0].of, Of::Count));
    }
    for (field, value) in filters().iter().flat_map(Filter::values) {
        let class = ActionClass::ALL.iter().any(|class| class.name() == value);
        assert!(class || field != "keytrail.action.class", "no action class `{value}`");
    }
    for search in searches() {
        search.columns.iter().chain([&search.by]).for_each(|field| _ = lens::kind_of(field));
        search.filter.fields().into_iter().for_each(|field| _ = lens::kind_of(field));
    }
}

/// All panels of figures, by dashboard and title.
fn panels() -> Vec<(String, Figures)> {
    let mut all = Vec::new();
    for dashboard in dashboards() {
        for panel in dashboard.panels {
            if let Shows::Figures(figures) = panel.shows {
                all.push((format!("{}: {}", dashboard.title, panel.title), figures));
            }
        }
    }
    all
}

/// All filters, of searches, panels, and columns.
fn filters() -> Vec<Filter> {
    let mut filters: Vec<Filter> = searches().into_iter().map(|search| search.filter).collect();
    for (_, figures) in panels() {
        filters.push(figures.filter);
        for figure in figures.figures {
            if let Of::CountWhere(filter) = figure.of {
                filters.push(filter);
            }
        }
        for bucket in figures.buckets {
            if let By::Filters(of) = bucket.by {
                filters.extend(of.into_iter().map(|(_, filter)| filter));
            }
        }
    }
    filters
}

/// DuckDB's rows for queries over the tables `events` and `undated`, which are those of a person's choice.
fn from_archive(trail: &Trail, choices: &[(Shown, Vec<String>)]) -> Vec<Vec<Rows>> {
    let everything =
        format!("CREATE TABLE everything AS SELECT * EXCLUDE (event_original), {TERMS} FROM {{archive}}");
    let mut statements = vec![everything];
    for (Shown { range: (from, to), chosen }, queries) in choices {
        let chosen: String = chosen
            .iter()
            .map(|(field, value)| format!(" AND {} = '{value}'", field.replace('.', "_")))
            .collect();
        statements.push(format!(
            "CREATE OR REPLACE TABLE events AS SELECT * FROM everything
             WHERE timestamp BETWEEN TIMESTAMPTZ '{from}' AND TIMESTAMPTZ '{to}'{chosen}"
        ));
        statements.push(format!(
            "CREATE OR REPLACE TABLE undated AS SELECT * FROM everything WHERE day = 'undated'{chosen}"
        ));
        statements.extend_from_slice(queries);
    }
    let mut answers = trail.queries(&statements).into_iter().skip(1);
    let row = |row: Value| -> BTreeMap<String, Value> {
        let Value::Object(row) = row else { panic!("no row: {row}") };
        row.into_iter().collect()
    };
    let mut rows = Vec::new();
    for (_, queries) in choices {
        let of_choice = answers.by_ref().skip(2).take(queries.len());
        rows.push(of_choice.map(|rows| rows.into_iter().map(row).collect()).collect());
    }
    rows
}

fn sorted(mut rows: Rows) -> Rows {
    rows.sort_by_cached_key(|row| serde_json::to_string(row).expect("JSON"));
    rows
}

/// A trail of the examples and of two events without a time, with tables, in an index of a server.
struct Filled<'a> {
    trail: Trail,
    server: &'a SearchServer,
    namespace: String,
}

impl<'a> Filled<'a> {
    fn on(server: &'a SearchServer) -> Self {
        let (trail, namespace) = (Trail::new(), namespace());
        let tables = tools::root().join("schemas/tables");
        let tables: String =
            [("keys", "keys.csv"), ("principals", "principals.yaml"), ("accounts", "accounts.json")]
                .map(|(kind, file)| {
                    format!("[[tables]]\nkind = \"{kind}\"\npath = \"{}\"\n", tables.join(file).display())
                })
                .concat();
        let index = format!("[index]\nurl = \"{}\"\nnamespace = \"{namespace}\"\n", server.url());
        let config = trail.input("keytrail.toml", index + &tables);
        let filled = Self { trail, server, namespace };
        let inputs = [tools::root().join("examples"), filled.trail.undated(), "--no-report".into()];
        let said = filled.trail.run_json(inputs.iter().chain(&["--config".into(), config]));
        assert_eq!(number(&said["index"]["pending"]), 0, "{said}");
        assert_eq!(server.count(&filled.of(View::Events)), number(&said["index"]["created"]));
        filled
    }

    /// This trail's part of the indices of a data view.
    fn of(&self, view: View) -> String {
        let period = match view {
            View::Events => "*",
            View::Undated => "undated",
        };
        format!("keytrail-*-{}-{period},-keytrail-deadletter-*", self.namespace)
    }

    #[track_caller]
    fn ask(&self, view: View, request: &Value) -> Value {
        let answer = self.server.post(&format!("{}/_search", self.of(view)), request);
        assert_eq!(answer.status, 200, "{request}\n{answer:?}");
        assert_eq!(answer.body["_shards"]["failed"], 0, "{answer:?}");
        answer.body
    }

    /// Every panel of some dashboards shows the archive's numbers, whatever a person chooses on them.
    fn panels_show_the_archive(&self, choices: &[(Shown, &str)]) {
        let panels = panels();
        let choices: Vec<(&Shown, Vec<&(String, Figures)>)> = choices
            .iter()
            .map(|(shown, of)| (shown, panels.iter().filter(|(name, _)| name.starts_with(of)).collect()))
            .collect();
        let queries: Vec<(Shown, Vec<String>)> = choices
            .iter()
            .map(|(shown, of)| ((*shown).clone(), of.iter().map(|(_, f)| f.sql.to_owned()).collect()))
            .collect();
        let archive = from_archive(&self.trail, &queries);
        let mut wrong = String::new();
        for ((shown, panels), archive) in choices.into_iter().zip(archive) {
            assert!(!panels.is_empty() && archive.len() == panels.len());
            for ((name, figures), expected) in panels.into_iter().zip(archive) {
                let request = ask::figures(figures, shown);
                let found = sorted(ask::rows(figures, &self.ask(figures.view, &request)));
                let expected = sorted(expected);
                if found != expected {
                    let short =
                        |rows: &Rows| serde_json::to_string(&rows[..rows.len().min(20)]).expect("JSON");
                    let (found, expected) = (short(&found), short(&expected));
                    wrong += &format!("{name} {shown:?}\n  server  {found}\n  archive {expected}\n");
                }
                let any =
                    |row: &BTreeMap<String, Value>| row.values().any(|v| *v != json!(0) && !v.is_null());
                let all = shown.range == EVER && shown.chosen.is_empty();
                assert!(!all || found.iter().any(any), "{name} shows nothing");
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    /// Every search finds the archive's events, with their values, newest first.
    fn searches_find_the_archive(&self, shown: &Shown) {
        let searches = searches();
        let sql = |search: &Search| {
            let table = if search.view == View::Events { "events" } else { "undated" };
            format!("SELECT keytrail_uid AS uid FROM {table} WHERE {}", search.sql)
        };
        let queries: Vec<String> = searches.iter().map(sql).collect();
        let archive = from_archive(&self.trail, &[(shown.clone(), queries)]).remove(0);
        for (search, expected) in searches.iter().zip(archive) {
            let answer = self.ask(search.view, &ask::search(search, shown));
            let hits = answer["hits"]["hits"].as_array().expect("hits");
            assert_eq!(answer["hits"]["total"]["value"], hits.len());
            let times: Vec<i64> = hits.iter().filter_map(|hit| hit["sort"][0].as_i64()).collect();
            assert!(times.len() == hits.len() && times.is_sorted_by(|a, b| a >= b), "{}", search.id);
            let found: BTreeSet<String> = hits.iter().map(|hit| text(&hit["_id"])).collect();
            let expected: BTreeSet<String> = expected.iter().map(|row| text(&row["uid"])).collect();
            assert!(!expected.is_empty() && found == expected, "{}", search.id);
            for column in &search.columns {
                assert!(hits.iter().any(|hit| hit["fields"][*column].is_array()), "{}: {column}", search.id);
            }
        }
    }

    /// What stands in the files as Kibana's query means what is asked for: by the servers' own parser of queries, whose
    /// language is the same as far as dashboards use it, with operators in capitals.
    fn queries_mean_what_they_say(&self) {
        let mut seen = BTreeSet::new();
        for filter in filters() {
            let kql = filter.kql();
            if kql.is_empty() || !seen.insert(kql.clone()) {
                continue;
            }
            let lucene = kql.replace(" and ", " AND ").replace(" or ", " OR ").replace("not ", "NOT ");
            let count = |query: Value| {
                let request = json!({"size": 0, "track_total_hits": true, "query": query});
                number(&self.ask(View::Events, &request)["hits"]["total"]["value"])
            };
            let asked = count(filter.query());
            // The examples do not have every action class.
            assert!(asked > 0 || kql.starts_with("keytrail.action.class: \""), "nothing fulfils {kql}");
            assert_eq!(asked, count(json!({"query_string": {"query": lucene}})), "{lucene}");
        }
        assert!(seen.len() > 15, "{seen:?}");
    }

    /// Readers find all of it by the aliases.
    fn aliases_name_all_indices(&self) {
        let found = self.server.get(&format!("{}/_alias", self.of(View::Events))).body;
        let indices = found.as_object().expect("indices");
        assert!(indices.len() > 10, "{found}");
        for (index, aliases) in indices {
            for alias in ["keytrail", "logs-keytrail"] {
                assert!(aliases["aliases"][alias].is_object(), "{index} {alias}");
            }
        }
    }
}

impl Drop for Filled<'_> {
    fn drop(&mut self) {
        self.server.delete(&format!("keytrail-*-{}-*", self.namespace));
    }
}

#[track_caller]
fn dashboards_show_the_archive(server: &SearchServer) {
    let filled = Filled::on(server);
    filled.aliases_name_all_indices();
    let all = Shown { range: EVER, chosen: vec![] };
    filled.searches_find_the_archive(&all);
    filled.queries_mean_what_they_say();
    let chosen = |chosen: &[(&'static str, &'static str)]| Shown { chosen: chosen.to_vec(), ..all.clone() };
    let (key, store) = ("keytrail.key.id", "keytrail.key.store");
    filled.panels_show_the_archive(&[
        (all.clone(), ""),
        (Shown { range: SOME_HOURS, ..all.clone() }, ""),
        // In the controls of one key, and of one actor.
        (chosen(&[(key, "1234abcd-12ab-34cd-56ef-1234567890ab")]), "one key"),
        (chosen(&[("event.dataset", "vault.audit"), (store, "transit/"), (key, "payments")]), "one key"),
        (chosen(&[("user.name", "bert-jan")]), "one actor"),
    ]);
}

#[test]
fn dashboards_on_elasticsearch_show_the_archive() {
    dashboards_show_the_archive(&SearchServer::elasticsearch());
}

#[test]
fn dashboards_on_opensearch_show_the_archive() {
    dashboards_show_the_archive(&SearchServer::opensearch());
}

/// Somebody who may puts the files on the server: keytrail finds nothing left to do.
#[track_caller]
fn files_are_what_setup_installs(server: &SearchServer) {
    let target = match server.kind() {
        Kind::Opensearch => Target::OpenSearch,
        _ => Target::Elasticsearch,
    };
    for (path, _) in templates(target) {
        let file = folder().join(of(target)).join(format!("{path}.json"));
        let body = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
        let answer = server.put(&path, &body);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    // These servers have no lifecycles: the policy is held against its form alone.
    for (path, policy) in policies(target) {
        let answer = server.put(&path, &policy);
        assert!(answer.status == 400 && answer.body.to_string().contains("no handler"), "{answer:?}");
    }
    let setup = Command::new(tools::keytrail())
        .args(["index", "setup", "--dry-run", "--elasticsearch", &server.url()])
        .output()
        .expect("keytrail starts");
    let said = String::from_utf8(setup.stdout).expect("UTF-8");
    assert!(setup.status.success(), "{said}");
    assert_eq!(said.matches("as it should be").count(), templates(target).len(), "{said}");
    assert!(!said.contains("would be"), "{said}");
}

#[test]
fn the_files_are_what_setup_installs_on_elasticsearch() {
    files_are_what_setup_installs(&SearchServer::elasticsearch());
}

#[test]
fn the_files_are_what_setup_installs_on_opensearch() {
    files_are_what_setup_installs(&SearchServer::opensearch());
}
