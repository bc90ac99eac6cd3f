//! A writer of MaxMind DB files, after "MaxMind DB File Format Specification" 2.0: a tree of IPv4 networks
//! with records of 24 bits, enough for a test of its reader.

/// A value of a record.
pub enum Value {
    /// UTF-8.
    Text(&'static str),
    /// Unsigned, up to 16 bits.
    Short(u16),
    /// Unsigned, up to 32 bits.
    Number(u32),
    /// Unsigned, up to 64 bits.
    Long(u64),
    /// By name.
    Map(Vec<(&'static str, Value)>),
    /// One after the other.
    Array(Vec<Value>),
}

/// A database of networks, by first address and prefix length; none lies in another.
pub fn database(networks: &[([u8; 4], u8, Value)]) -> Vec<u8> {
    // A node has a record for each bit: another node, or a place in the data.
    #[derive(Clone, Copy)]
    enum Next {
        Nothing,
        Node(usize),
        Data(usize),
    }
    let (mut nodes, mut data) = (vec![[Next::Nothing; 2]], Vec::new());
    for (address, length, value) in networks {
        let address = u32::from_be_bytes(*address);
        let place = data.len();
        write(&mut data, value);
        let mut node = 0;
        for bit in 0..*length {
            let side = (address >> (31 - bit) & 1) as usize;
            if bit + 1 == *length {
                nodes[node][side] = Next::Data(place);
                break;
            }
            node = match nodes[node][side] {
                Next::Node(next) => next,
                _ => {
                    nodes.push([Next::Nothing; 2]);
                    let next = nodes.len() - 1;
                    nodes[node][side] = Next::Node(next);
                    next
                }
            };
        }
    }
    let count = nodes.len();
    let mut file = Vec::new();
    for next in nodes.iter().flatten() {
        let record = match next {
            Next::Nothing => count,
            Next::Node(node) => *node,
            Next::Data(place) => count + 16 + place,
        };
        file.extend_from_slice(&(record as u32).to_be_bytes()[1..]);
    }
    file.extend_from_slice(&[0; 16]);
    file.extend_from_slice(&data);
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    let metadata = Value::Map(vec![
        ("binary_format_major_version", Value::Short(2)),
        ("binary_format_minor_version", Value::Short(0)),
        ("build_epoch", Value::Long(1_700_000_000)),
        ("database_type", Value::Text("keytrail-test")),
        ("description", Value::Map(vec![("en", Value::Text("a test"))])),
        ("ip_version", Value::Short(4)),
        ("languages", Value::Array(vec![Value::Text("en")])),
        ("node_count", Value::Number(count as u32)),
        ("record_size", Value::Short(24)),
    ]);
    write(&mut file, &metadata);
    file
}

/// A control byte (type and size), then the value.
fn write(out: &mut Vec<u8>, value: &Value) {
    let control = |out: &mut Vec<u8>, kind: u8, size: usize| {
        // Sizes from 29 on stand in a byte of their own.
        let (low, more) = if size < 29 { (size as u8, None) } else { (29, Some(size - 29)) };
        let kind = if kind < 8 { [kind << 5 | low, 0] } else { [low, kind - 7] };
        out.extend_from_slice(if kind[1] == 0 { &kind[..1] } else { &kind });
        out.extend(more.map(|size| u8::try_from(size).expect("a size below 285")));
    };
    let text = |out: &mut Vec<u8>, text: &str| {
        control(out, 2, text.len());
        out.extend_from_slice(text.as_bytes());
    };
    match value {
        Value::Text(value) => text(out, value),
        Value::Short(n) => {
            control(out, 5, 2);
            out.extend_from_slice(&n.to_be_bytes());
        }
        Value::Number(n) => {
            control(out, 6, 4);
            out.extend_from_slice(&n.to_be_bytes());
        }
        Value::Long(n) => {
            control(out, 9, 8);
            out.extend_from_slice(&n.to_be_bytes());
        }
        Value::Map(entries) => {
            control(out, 7, entries.len());
            for (name, value) in entries {
                text(out, name);
                write(out, value);
            }
        }
        Value::Array(items) => {
            control(out, 11, items.len());
            items.iter().for_each(|item| write(out, item));
        }
    }
}
