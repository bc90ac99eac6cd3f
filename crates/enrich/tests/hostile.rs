//! Nothing that a file holds makes its reading panic.

use keytrail_enrich::{Format, Tables, Validity, read};
use keytrail_model::TableKind;
use proptest::prelude::*;

const SEEDS: [(TableKind, Format, &[u8]); 4] = [
    (TableKind::Keys, Format::Csv, include_bytes!("../../../schemas/tables/keys.csv")),
    (TableKind::Principals, Format::Yaml, include_bytes!("../../../schemas/tables/principals.yaml")),
    (TableKind::Networks, Format::Csv, include_bytes!("../../../schemas/tables/networks.csv")),
    (TableKind::Accounts, Format::Json, include_bytes!("../../../schemas/tables/accounts.json")),
];

#[test]
fn the_examples_are_good() {
    let read = |(kind, format, bytes): (TableKind, Format, &[u8])| {
        read(kind, kind.name(), format, bytes, Validity::default()).expect("a good table")
    };
    let tables = Tables::new(SEEDS.into_iter().map(read).collect()).expect("good tables");
    assert_eq!(tables.keys().count(), 7);
    assert!(tables.iter().all(|t| t.ignored.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_tables_do_not_panic(
        seed in 0..SEEDS.len(),
        as_format in 0..Format::ALL.len(),
        same in any::<bool>(),
        edits in prop::collection::vec((any::<u16>(), any::<u8>()), 0..8),
        cut in any::<u16>(),
    ) {
        let (kind, format, bytes) = SEEDS[seed];
        let mut bytes = bytes.to_vec();
        for (at, byte) in edits {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - usize::from(cut) % 20);
        let format = if same { format } else { Format::ALL[as_format] };
        if let Ok(table) = read(kind, "t", format, &bytes, Validity::default()) {
            let _either_way = Tables::new(vec![table]).map(|_| ());
        }
    }
}
