//! A writer for the few DER shapes that a certificate needs.
//!
//! Own, because names and extensions must be copied byte for byte, which struct encoders do not promise.

use time::OffsetDateTime;

use crate::error::PrimError;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// The class of tags whose meaning the surroundings give: of what is written as it is, and of what holds more.
pub(crate) const CONTEXT: u8 = 0x80;
pub(crate) const CONSTRUCTED: u8 = 0xa0;

/// What a step of writing comes to.
pub(crate) type Written = Result<(), PrimError>;

/// DER written from front to back into one buffer; a length is put in where its value ends.
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty one, with room for so many bytes.
    pub(crate) fn with_room(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes) }
    }

    /// What was written.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Bytes that are DER already.
    pub(crate) fn raw(&mut self, der: &[u8]) {
        self.out.extend_from_slice(der);
    }

    /// Tag, length, and a content that is at hand.
    pub(crate) fn value(&mut self, tag: u8, content: &[u8]) {
        self.out.push(tag);
        self.out.push(0);
        let start = self.out.len();
        self.out.extend_from_slice(content);
        self.close(start);
    }

    /// Tag, length, and a content that is written within.
    pub(crate) fn within(&mut self, tag: u8, write: impl FnOnce(&mut Self) -> Written) -> Written {
        self.out.push(tag);
        self.out.push(0);
        let start = self.out.len();
        write(self)?;
        self.close(start);
        Ok(())
    }

    /// Puts in the length of what begins at `start`, whose first octet stands before it.
    fn close(&mut self, start: usize) {
        let length = self.out.len() - start;
        let first = if let (true, Ok(short)) = (length < 0x80, u8::try_from(length)) {
            short
        } else {
            let bytes = length.to_be_bytes();
            let zeros = bytes.iter().take_while(|b| **b == 0).count();
            let significant = bytes.get(zeros..).unwrap_or_default();
            self.out.splice(start..start, significant.iter().copied());
            // A length has at most eight octets, so the count fits the low seven bits.
            0x80 | u8::try_from(significant.len()).unwrap_or(8)
        };
        if let Some(octet) = self.out.get_mut(start - 1) {
            *octet = first;
        }
    }

    pub(crate) fn sequence(&mut self, write: impl FnOnce(&mut Self) -> Written) -> Written {
        self.within(SEQUENCE, write)
    }

    /// A non-negative integer from big-endian bytes.
    pub(crate) fn unsigned(&mut self, bytes: &[u8]) {
        self.value(INTEGER, &unsigned_content(bytes));
    }

    /// A bit string of whole octets.
    pub(crate) fn bits(&mut self, bytes: &[u8]) {
        self.out.push(BIT_STRING);
        self.out.push(0);
        let start = self.out.len();
        self.out.push(0);
        self.out.extend_from_slice(bytes);
        self.close(start);
    }

    /// An object identifier from its dotted text.
    pub(crate) fn oid(&mut self, dotted: &str) -> Written {
        self.within(OBJECT_ID, |writer| {
            writer.arcs(dotted).ok_or_else(|| {
                PrimError::argument(format!("`{}` is no object identifier", dotted.escape_debug()))
                    .expected("numbers with dots between them", format!("`{}`", dotted.escape_debug()))
                    .hint("write it as `1.3.6.1.4.1`")
            })
        })
    }

    fn arcs(&mut self, dotted: &str) -> Option<()> {
        let number = |arc: &[u8]| {
            let digit = |b: u8| b.is_ascii_digit().then_some(u64::from(b & 0x0f));
            let all = arc.iter().try_fold(0u64, |n, b| n.checked_mul(10)?.checked_add(digit(*b)?));
            all.filter(|_| !arc.is_empty())
        };
        let mut arcs = dotted.as_bytes().split(|b| *b == b'.').map(number);
        let (first, second) = (arcs.next()??, arcs.next()??);
        if first > 2 || (first < 2 && second > 39) {
            return None;
        }
        let head = (first * 40).checked_add(second)?;
        for arc in std::iter::once(Some(head)).chain(arcs) {
            let arc = arc?;
            // Seven bits an octet, the highest first.
            let octets = (u64::BITS - arc.leading_zeros()).div_ceil(7).max(1);
            for octet in (0..octets).rev() {
                let more = if octet > 0 { 0x80 } else { 0 };
                self.out.push(more | ((arc >> (7 * octet)) & 0x7f) as u8);
            }
        }
        Some(())
    }

    /// UTCTime until 2049, GeneralizedTime from 2050, as RFC 5280 asks.
    pub(crate) fn time(&mut self, at: OffsetDateTime) -> Written {
        let at = at.to_offset(time::UtcOffset::UTC);
        let year = u16::try_from(at.year()).ok().filter(|year| *year <= 9999).ok_or_else(|| {
            PrimError::argument(format!("the year {} cannot be written into a certificate", at.year()))
                .expected("a year from 0 to 9999", at.year().to_string())
                .hint("ask for a shorter life")
        })?;
        let [century, rest] = [year / 100, year % 100].map(|part| u8::try_from(part).unwrap_or_default());
        let utc = (1950..2050).contains(&year);
        self.within(if utc { UTC_TIME } else { GENERALIZED_TIME }, |writer| {
            let parts = [century, rest, u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second()];
            for part in parts.into_iter().skip(usize::from(utc)) {
                writer.out.extend([b'0' + part / 10, b'0' + part % 10]);
            }
            writer.out.push(b'Z');
            Ok(())
        })
    }
}

/// Tag, length, content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_room(content.len() + 6);
    writer.value(tag, content);
    writer.finish()
}

pub(crate) fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

/// A SET OF: DER sorts its members by their encodings.
pub(crate) fn set_of(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    tlv(SET, &parts.concat())
}

/// `[number]` constructed.
pub(crate) fn context(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(CONSTRUCTED | number, content)
}

/// `[number]` primitive.
pub(crate) fn context_primitive(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(CONTEXT | number, content)
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

/// A bit string of whole octets.
pub(crate) fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], bytes].concat())
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
    let mut writer = Writer::with_room(16);
    writer.oid(dotted)?;
    Ok(writer.finish())
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
        let time = |at| {
            let mut writer = Writer::with_room(16);
            writer.time(at).map(|()| writer.finish())
        };
        assert_eq!(time(datetime!(2049-12-31 23:59:59 UTC)).unwrap()[2..], *b"491231235959Z");
        assert_eq!(time(datetime!(2050-01-01 0:00 UTC)).unwrap()[2..], *b"20500101000000Z");
        assert_eq!(time(datetime!(1949-01-01 0:00 UTC)).unwrap()[2..], *b"19490101000000Z");
    }
}
