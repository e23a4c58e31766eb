//! Distinguished names: built as cfssl builds them, shown as text, compared as bytes.

use x509_parser::x509::X509Name;

use super::der::{self, Writer};
use crate::error::PrimError;

/// Attribute types with the short names under which they are shown.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.17", "postalCode"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// A name under construction: attribute types in order, each with one or more values. Several values of one type
/// become one multi-valued part, as in cfssl.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Builder<'a> {
    parts: Vec<(&'a str, Vec<&'a str>)>,
}

impl<'a> Builder<'a> {
    /// Adds the values of one attribute type, given as a short name (`CN`, `OU`) or an object identifier. Blank ones
    /// are left out.
    #[must_use]
    pub fn with(mut self, attribute: &'a str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let oid = SHORT_NAMES.iter().find(|(_, short)| *short == attribute).map_or(attribute, |(oid, _)| oid);
        let values: Vec<&str> = values.into_iter().filter(|value| !value.is_empty()).collect();
        if !values.is_empty() {
            self.parts.push((oid, values));
        }
        self
    }

    /// The DER.
    ///
    /// # Errors
    /// An attribute type that is no object identifier.
    pub fn to_der(&self) -> Result<Vec<u8>, PrimError> {
        let mut writer = Writer::with_room(128);
        writer.sequence(|writer| {
            for (attribute, values) in &self.parts {
                let one = |writer: &mut Writer, value: &str| {
                    writer.sequence(|writer| {
                        writer.oid(attribute)?;
                        writer.value(string(attribute, value), value.as_bytes());
                        Ok(())
                    })
                };
                if let [only] = values.as_slice() {
                    writer.within(der::SET, |writer| one(writer, only))?;
                    continue;
                }
                let mut members = Vec::with_capacity(values.len());
                for value in values {
                    let mut member = Writer::with_room(32);
                    one(&mut member, value)?;
                    members.push(member.finish());
                }
                writer.raw(&der::set_of(members));
            }
            Ok(())
        })?;
        Ok(writer.finish())
    }
}

/// The string type that Go chooses: PrintableString where it can be, UTF8String otherwise; e-mail addresses are IA5.
fn string(attribute: &str, value: &str) -> u8 {
    let printable = |c: char| c.is_ascii_alphanumeric() || " '()+,-./:=?".contains(c);
    if attribute == "1.2.840.113549.1.9.1" && value.is_ascii() {
        der::IA5_STRING
    } else if value.chars().all(printable) {
        der::PRINTABLE_STRING
    } else {
        der::UTF8_STRING
    }
}

/// `C=US, ST=Beijing, CN=TiDB`, parts in the order of the certificate, `+` within a multi-valued part, control
/// characters escaped.
pub(crate) fn text(name: &X509Name<'_>) -> String {
    let part = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        let oid = attribute.attr_type().to_id_string();
        let short =
            SHORT_NAMES.iter().find(|(known, _)| *known == oid).map_or(oid.as_str(), |(_, short)| short);
        let value = match attribute.as_str() {
            Ok(text) => escape(text),
            Err(_) => format!("#{}", hex::encode(attribute.as_slice())),
        };
        format!("{short}={value}")
    };
    name.iter_rdn()
        .map(|rdn| rdn.iter().map(part).collect::<Vec<_>>().join(" + "))
        .collect::<Vec<_>>()
        .join(", ")
}

fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            ',' | '+' | '\\' | '=' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}
