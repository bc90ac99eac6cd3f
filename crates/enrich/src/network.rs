//! Networks: CIDR to zone and site.

use std::net::{IpAddr, Ipv6Addr};

use crate::fields::Fields;
use crate::validity::Validity;

/// A row of the table of networks.
#[derive(Clone, PartialEq, Debug)]
pub struct Network {
    /// The network.
    pub prefix: Prefix,
    /// Its zone.
    pub zone: Option<Box<str>>,
    /// Where it is.
    pub site: Option<Box<str>>,
    /// When the row holds.
    pub validity: Validity,
}

/// Addresses that begin with the same bits, in the space of IPv6: IPv4 is `::ffff:0:0/96` of it, so that an
/// address that is written either way is one address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    /// The first address.
    pub first: u128,
    /// Number of bits that count, up to 128.
    pub bits: u8,
}

impl Prefix {
    /// Reads `10.0.0.0/8`, `2001:db8::/32` or an address.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "expected a network as in `10.0.0.0/8` or `2001:db8::/32`".to_owned();
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| expected())?;
        let (width, shift) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let bits = match length {
            None => width,
            Some(length) => {
                let digits = length.bytes().all(|b| b.is_ascii_digit());
                length.parse().ok().filter(|bits| digits && *bits <= width).ok_or_else(expected)?
            }
        };
        let prefix = Self { first: number(address), bits: bits + shift };
        if prefix.first & !prefix.mask() != 0 {
            let network = Self { first: prefix.first & prefix.mask(), ..prefix };
            return Err(format!("expected the network's first address, as in `{network}`"));
        }
        Ok(prefix)
    }

    fn mask(self) -> u128 {
        if self.bits == 0 { 0 } else { u128::MAX << (128 - u32::from(self.bits)) }
    }

    /// The last address.
    pub fn last(self) -> u128 {
        self.first | !self.mask()
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = Ipv6Addr::from_bits(self.first);
        match address.to_ipv4_mapped().filter(|_| self.bits >= 96) {
            Some(v4) => write!(f, "{v4}/{}", self.bits - 96),
            None => write!(f, "{address}/{}", self.bits),
        }
    }
}

/// An address as a number in the space of IPv6.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Network {
    pub(crate) fn read(fields: &mut Fields<'_>, default: Validity) -> Option<Self> {
        let prefix = match fields.text("network") {
            None => {
                fields.problem("network", "missing, expected a network as in `10.0.0.0/8`");
                None
            }
            Some(text) => Prefix::parse(text)
                .map_err(|e| {
                    fields.problem("network", format!("{e}, found `{}`", crate::fields::clipped(text)));
                })
                .ok(),
        };
        let (zone, site) = (fields.owned("zone"), fields.owned("site"));
        let validity = fields.validity(default);
        Some(Self { prefix: prefix?, zone, site, validity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_written() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(Prefix::parse(text).map(|p| p.to_string()).as_deref(), Ok(shown));
        }
        let host = Prefix::parse("10.0.0.1/8").unwrap_err();
        assert_eq!(host, "expected the network's first address, as in `10.0.0.0/8`");
        for wrong in
            ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/", "::/129", "x/8", "1.2.3.4/999"]
        {
            assert!(Prefix::parse(wrong).is_err(), "{wrong}");
        }
    }
}
