//! Where a call came from, as sources write it.
//!
//! What it is: the columns of a caller's address. What it is not: it resolves no name.
//! In: a text. Out: `source.*` and `related.ip`.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use keytrail_model::{AuditEvent, Column};

use crate::Masker;

/// Sets `source.*` and `related.ip` from an address, an address and port, or another text, which is
/// `source.address` alone.
pub(crate) fn source<'a>(event: &mut AuditEvent<'a>, text: Cow<'a, str>, masker: &Masker) {
    let Some((ip, port)) = parse(&text) else {
        event.text(Column::SourceAddress, masker.scrub(text));
        return;
    };
    if port > 0 {
        event.int(Column::SourcePort, port.into());
    }
    let ip = ip.to_string();
    event.add(Column::RelatedIp, ip.clone());
    event.text(Column::SourceAddress, ip.clone());
    event.text(Column::SourceIp, ip);
}

/// `ip`, `[v6]`, `ip:port` or `[v6]:port`; port 0 is none.
pub(crate) fn parse(text: &str) -> Option<(IpAddr, u16)> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let socket = || text.parse::<SocketAddr>().ok().map(|s| (s.ip(), s.port()));
    bare.parse().ok().map(|ip| (ip, 0)).or_else(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_ports() {
        let read = |text| parse(text).map(|(ip, port)| (ip.to_string(), port));
        assert_eq!(read("192.0.2.7"), Some(("192.0.2.7".into(), 0)));
        assert_eq!(read("192.0.2.7:443"), Some(("192.0.2.7".into(), 443)));
        assert_eq!(read("2001:db8::7"), Some(("2001:db8::7".into(), 0)));
        assert_eq!(read("[2001:db8::7]:443"), Some(("2001:db8::7".into(), 443)));
        for other in ["", "private", "999.1.1.1", "[192.0.2.7", "gce-internal-ip", "192.0.2.7:99999"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
