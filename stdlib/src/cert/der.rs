//! A writer for the few DER shapes that a certificate needs.
//!
//! Own, because names and extensions must be copied byte for byte, which struct encoders do not promise.

use time::OffsetDateTime;

use crate::error::PrimError;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// Tag, length, content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    tlv_of(tag, &[content])
}

/// Tag, length, and the content in parts.
fn tlv_of(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    if let (true, Ok(short)) = (length < 0x80, u8::try_from(length)) {
        out.push(short);
    } else {
        let bytes = length.to_be_bytes();
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        let significant = bytes.get(zeros..).unwrap_or_default();
        // A length has at most eight octets, so the count fits the low seven bits.
        out.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
        out.extend_from_slice(significant);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

pub(crate) fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv_of(SEQUENCE, parts)
}

/// A SET OF: DER sorts its members by their encodings.
pub(crate) fn set_of(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    tlv(SET, &parts.concat())
}

/// `[number]` constructed.
pub(crate) fn context(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, content)
}

/// `[number]` primitive.
pub(crate) fn context_primitive(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0x80 | number, content)
}

pub(crate) fn boolean(value: bool) -> Vec<u8> {
    tlv(0x01, &[if value { 0xff } else { 0 }])
}

/// A non-negative integer from big-endian bytes.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    tlv(INTEGER, &unsigned_content(bytes))
}

/// As [`unsigned`], the content alone.
pub(crate) fn unsigned_content(bytes: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
    if content.first().is_none_or(|b| b & 0x80 != 0) {
        content.insert(0, 0);
    }
    content
}

pub(crate) fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(OCTET_STRING, bytes)
}

/// A bit string of whole octets.
pub(crate) fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv_of(BIT_STRING, &[&[0], bytes])
}

/// A named-bit list, bit 0 first, trailing zeros dropped as DER wants.
pub(crate) fn named_bits(flags: u16) -> Vec<u8> {
    let mut octets = [0u8; 2];
    for bit in 0..16u16 {
        if flags >> bit & 1 == 1
            && let Some(octet) = octets.get_mut(usize::from(bit / 8))
        {
            *octet |= 0x80 >> (bit % 8);
        }
    }
    let used = 16 - flags.leading_zeros();
    let length = usize::try_from(used.div_ceil(8)).unwrap_or(2);
    let unused = u8::try_from((8 - used % 8) % 8).unwrap_or(0);
    let mut content = vec![unused];
    content.extend(octets.iter().take(length));
    tlv(BIT_STRING, &content)
}

/// An object identifier from its dotted text.
pub(crate) fn oid(dotted: &str) -> Result<Vec<u8>, PrimError> {
    let bad = || {
        PrimError::argument(format!("`{}` is no object identifier", dotted.escape_debug()))
            .expected("numbers with dots between them", format!("`{}`", dotted.escape_debug()))
            .hint("write it as `1.3.6.1.4.1`")
    };
    let mut arcs = dotted.split('.').map(|arc| arc.parse::<u64>().map_err(|_| bad()));
    let (first, second) = (arcs.next().ok_or_else(bad)??, arcs.next().ok_or_else(bad)??);
    if first > 2 || (first < 2 && second > 39) {
        return Err(bad());
    }
    let head = (first * 40).checked_add(second).ok_or_else(bad)?;
    let mut content = Vec::with_capacity(16);
    for arc in std::iter::once(Ok(head)).chain(arcs) {
        let arc = arc?;
        // Seven bits an octet, the highest first.
        let octets = (u64::BITS - arc.leading_zeros()).div_ceil(7).max(1);
        for octet in (0..octets).rev() {
            let more = if octet > 0 { 0x80 } else { 0 };
            content.push(more | ((arc >> (7 * octet)) & 0x7f) as u8);
        }
    }
    Ok(tlv(OBJECT_ID, &content))
}

/// UTCTime until 2049, GeneralizedTime from 2050, as RFC 5280 asks.
pub(crate) fn time(at: OffsetDateTime) -> Result<Vec<u8>, PrimError> {
    let at = at.to_offset(time::UtcOffset::UTC);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let rest = format!("{month:02}{day:02}{:02}{:02}{:02}Z", at.hour(), at.minute(), at.second());
    match year {
        1950..2050 => Ok(tlv(UTC_TIME, format!("{:02}{rest}", year % 100).as_bytes())),
        0..1950 | 2050..=9999 => Ok(tlv(GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes())),
        _ => Err(PrimError::argument(format!("the year {year} cannot be written into a certificate"))
            .expected("a year from 0 to 9999", year.to_string())
            .hint("ask for a shorter life")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn lengths_take_the_short_and_the_long_form() {
        assert_eq!(tlv(OCTET_STRING, &[7])[..2], [4, 1]);
        assert_eq!(tlv(OCTET_STRING, &[0; 127])[..2], [4, 127]);
        assert_eq!(tlv(OCTET_STRING, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(tlv(OCTET_STRING, &[0; 300])[..4], [4, 0x82, 1, 44]);
    }

    #[test]
    fn integers_stay_positive_and_minimal() {
        assert_eq!(unsigned(&[0, 0, 5]), [2, 1, 5]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0]), [2, 1, 0]);
    }

    #[test]
    fn key_usage_bits_are_what_openssl_writes() {
        assert_eq!(named_bits(0b101), [3, 2, 5, 0xa0]); // digitalSignature, keyEncipherment
        assert_eq!(named_bits(0b110_0000), [3, 2, 1, 0x06]); // keyCertSign, cRLSign
        assert_eq!(named_bits(1 << 8), [3, 3, 7, 0, 0x80]); // decipherOnly
    }

    #[test]
    fn object_identifiers() {
        assert_eq!(oid("2.5.29.15").unwrap(), [6, 3, 0x55, 0x1d, 0x0f]);
        assert_eq!(oid("1.2.840.113549.1.1.11").unwrap(), hex::decode("06092a864886f70d01010b").unwrap());
        for bad in ["", "1", "3.1", "1.40", "a.b", "1..2", "2.18446744073709551615"] {
            assert!(oid(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_year_2050_changes_the_time_type() {
        assert_eq!(time(datetime!(2049-12-31 23:59:59 UTC)).unwrap()[2..], *b"491231235959Z");
        assert_eq!(time(datetime!(2050-01-01 0:00 UTC)).unwrap()[2..], *b"20500101000000Z");
        assert_eq!(time(datetime!(1949-01-01 0:00 UTC)).unwrap()[2..], *b"19490101000000Z");
    }
}
