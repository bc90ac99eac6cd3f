//! Places and autonomous systems of addresses, of a MaxMind DB file (format 2.0) that the user brings:
//! City, Country and ASN databases of MaxMind, DB-IP and whoever writes their columns.

use std::net::IpAddr;

use maxminddb::Reader;
use serde::Deserialize;

use crate::problem::Problem;
use crate::validity::Validity;

/// A database, checked as a whole when it was read.
#[derive(Debug)]
pub struct Places {
    reader: Reader<Vec<u8>>,
    /// When it holds.
    pub validity: Validity,
}

/// What a database says of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub struct Place<'a> {
    #[serde(borrow, default)]
    country: Country<'a>,
    #[serde(borrow, default)]
    city: City<'a>,
    /// Number of the autonomous system.
    #[serde(default, rename = "autonomous_system_number")]
    pub as_number: Option<u32>,
    /// Its organization.
    #[serde(borrow, default, rename = "autonomous_system_organization")]
    pub as_organization: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
struct Country<'a> {
    #[serde(borrow, default)]
    iso_code: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
struct City<'a> {
    #[serde(borrow, default)]
    names: Names<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
struct Names<'a> {
    #[serde(borrow, default)]
    en: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// ISO 3166-1 alpha-2.
    pub fn country(&self) -> Option<&'a str> {
        self.country.iso_code
    }

    /// The city's name in English.
    pub fn city(&self) -> Option<&'a str> {
        self.city.names.en
    }
}

impl Places {
    /// Reads a database and follows all of its pointers.
    pub(crate) fn read(bytes: &[u8], validity: Validity) -> Result<Self, Problem> {
        let wrong = |e: maxminddb::MaxMindDbError| {
            Problem::of_file(format!("expected a MaxMind DB file (.mmdb): {e}"))
        };
        let reader = Reader::from_source(bytes.to_vec()).map_err(wrong)?;
        reader.verify().map_err(wrong)?;
        let places = Self { reader, validity };
        // One record tells whether its columns are those that are read.
        for found in places.reader.networks(Default::default()).map_err(wrong)?.take(1) {
            let found = found.map_err(wrong)?;
            let place = found.decode::<Place<'_>>().map_err(|e| {
                Problem::of_file(format!(
                    "expected records as in a City, Country or ASN database of MaxMind: {e}"
                ))
            })?;
            if place.is_none_or(|p| p == Place::default()) {
                let kind = crate::fields::clipped(&places.reader.metadata().database_type);
                return Err(Problem::of_file(format!(
                    "expected a City, Country or ASN database; records of this one (`{kind}`) have neither \
                     `country`, `city` nor `autonomous_system_number`"
                )));
            }
        }
        Ok(places)
    }

    /// What it says of an address. A record that does not decode says nothing.
    pub(crate) fn find(&self, address: IpAddr) -> Option<Place<'_>> {
        self.reader.lookup(address.to_canonical()).ok()?.decode().ok().flatten()
    }

    /// Nodes of its search tree, which are about as many as its networks.
    pub(crate) fn nodes(&self) -> u64 {
        u64::from(self.reader.metadata().node_count)
    }
}
