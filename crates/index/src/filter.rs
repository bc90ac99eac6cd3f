//! Which events are indexed: all, but where configuration says otherwise.

use keytrail_model::row::text;
use keytrail_model::{ActionClass, Column};

/// Events of one kind: those that each of its lists names; an empty list names all.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rule {
    /// `event.dataset`.
    pub datasets: Vec<String>,
    /// `keytrail.action.class`.
    pub classes: Vec<ActionClass>,
    /// `event.outcome`.
    pub outcomes: Vec<String>,
}

impl Rule {
    /// Whether an event with those columns (row encoding) is one of them.
    fn names(&self, dataset: &str, columns: &[u8]) -> bool {
        let (class, outcome) =
            (text(columns, Column::KeytrailActionClass), text(columns, Column::EventOutcome));
        (self.datasets.is_empty() || self.datasets.iter().any(|name| name == dataset))
            && (self.classes.is_empty() || self.classes.iter().any(|name| class == Some(name.name())))
            && (self.outcomes.is_empty() || self.outcomes.iter().any(|name| outcome == Some(name)))
    }
}

/// What is indexed: what an `include` names, or all where there is none, but what an `exclude` names.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Filter {
    /// Events that are indexed.
    pub include: Vec<Rule>,
    /// Events that are not.
    pub exclude: Vec<Rule>,
}

impl Filter {
    /// Whether all events are indexed.
    pub fn takes_all(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether an event of a dataset, with those columns (row encoding), is indexed.
    pub fn takes(&self, dataset: &str, columns: &[u8]) -> bool {
        let named = |rules: &[Rule]| rules.iter().any(|rule| rule.names(dataset, columns));
        (self.include.is_empty() || named(&self.include)) && !named(&self.exclude)
    }
}

#[cfg(test)]
mod tests {
    use keytrail_model::Value;
    use keytrail_model::row::encode;

    use super::*;

    fn event(class: ActionClass, outcome: Option<&'static str>) -> Vec<u8> {
        let mut out = Vec::new();
        let outcome = outcome.map(|outcome| (Column::EventOutcome, Value::Text(outcome.into())));
        let class = (Column::KeytrailActionClass, Value::Text(class.name().into()));
        encode(&mut out, outcome.into_iter().chain([class]));
        out
    }

    #[test]
    fn rules_name_events_by_all_of_their_lists() {
        let failed = Rule { outcomes: vec!["failure".into()], ..Rule::default() };
        let reads = Rule {
            datasets: vec!["aws.cloudtrail".into()],
            classes: vec![ActionClass::Access, ActionClass::Decrypt],
            ..Rule::default()
        };
        let takes = |filter: &Filter, dataset, class, outcome| filter.takes(dataset, &event(class, outcome));
        let all = Filter::default();
        assert!(all.takes_all() && takes(&all, "vault.audit", ActionClass::Decrypt, None));
        let without = Filter { exclude: vec![reads.clone()], ..Filter::default() };
        assert!(!takes(&without, "aws.cloudtrail", ActionClass::Decrypt, Some("failure")));
        assert!(takes(&without, "vault.audit", ActionClass::Decrypt, Some("failure")));
        assert!(takes(&without, "aws.cloudtrail", ActionClass::Sign, None));
        let only = Filter { include: vec![failed, reads.clone()], exclude: vec![] };
        assert!(takes(&only, "vault.audit", ActionClass::Sign, Some("failure")));
        assert!(!takes(&only, "vault.audit", ActionClass::Sign, None));
        assert!(takes(&only, "aws.cloudtrail", ActionClass::Access, None));
        let both = Filter { include: vec![reads.clone()], exclude: vec![reads] };
        assert!(!takes(&both, "aws.cloudtrail", ActionClass::Access, None), "an exclusion wins");
    }
}
