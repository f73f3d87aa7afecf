//! A scanner for JSON as machines write it, many times cheaper than a reader that knows every case.
//!
//! It is never wrong and often silent: each method gives `None` on whatever is bad, and also on whatever is merely
//! unusual (an escaped name, a surrogate, a number with an exponent, deep nesting). The caller then asks the full
//! reader, which has the last word; so what is accepted here is exactly what that reader accepts, and means the same.

use super::Kind;

/// Values nested deeper than this are left to the full reader.
const DEPTH_MAX: usize = 48;
/// Numbers with more digits are left to the full reader: these are within every range.
const DIGITS_MAX: usize = 19;
/// Names of open objects that can be told apart here.
const NAMES_MAX: usize = 64;

/// A place in a text, from which values are read.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// The names of the open objects of a strict walk, innermost last.
#[derive(Debug)]
pub(crate) struct OpenNames<'a> {
    names: [&'a str; NAMES_MAX],
    len: usize,
}

impl<'a> OpenNames<'a> {
    pub(crate) const fn new() -> Self {
        Self { names: [""; NAMES_MAX], len: 0 }
    }

    /// Adds a name to the object whose first name is at `base`; `None` if it is there already, or there is no room.
    pub(crate) fn add(&mut self, base: usize, name: &'a str) -> Option<()> {
        if self.names.get(base..self.len)?.contains(&name) {
            return None;
        }
        *self.names.get_mut(self.len)? = name;
        self.len += 1;
        Some(())
    }
}

impl<'a> Scan<'a> {
    /// The start of `text`.
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The first byte of the next value, which is not taken.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if byte > b' ' {
                return Some(byte);
            }
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return None;
            }
            self.at += 1;
        }
    }

    /// Nothing but space is left.
    pub(crate) fn end(mut self) -> Option<()> {
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return None;
            }
            self.at += 1;
        }
        Some(())
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then(|| self.at += 1)
    }

    /// Reads an object; `member` is called behind the colon of each member and must read its value.
    pub(crate) fn object(&mut self, mut member: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        self.down()?;
        if self.next()? == b'}' {
            self.at += 1;
        } else {
            loop {
                let name = self.plain_string()?;
                self.take(b':')?;
                member(self, name)?;
                match self.next()? {
                    b',' => self.at += 1,
                    b'}' => break self.at += 1,
                    _ => return None,
                }
            }
        }
        self.depth -= 1;
        Some(())
    }

    /// Reads an array; `item` is called before each item and must read it.
    pub(crate) fn array(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(b'[')?;
        self.down()?;
        if self.next()? == b']' {
            self.at += 1;
        } else {
            loop {
                item(self)?;
                match self.next()? {
                    b',' => self.at += 1,
                    b']' => break self.at += 1,
                    _ => return None,
                }
            }
        }
        self.depth -= 1;
        Some(())
    }

    const fn down(&mut self) -> Option<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { None } else { Some(()) }
    }

    /// Reads a string that has no escapes: what is between its quotes.
    #[inline]
    pub(crate) fn plain_string(&mut self) -> Option<&'a str> {
        let start = self.at_string()?;
        let end = stop(self.text.as_bytes(), start)?;
        if *self.text.as_bytes().get(end)? != b'"' {
            return None;
        }
        self.at = end + 1;
        self.text.get(start..end)
    }

    /// Reads a string, escapes and all.
    #[inline]
    pub(crate) fn string(&mut self) -> Option<()> {
        let (start, bytes) = (self.at_string()?, self.text.as_bytes());
        let end = stop(bytes, start)?;
        if *bytes.get(end)? == b'"' {
            self.at = end + 1;
            return Some(());
        }
        self.escaped(end)
    }

    /// Reads the rest of a string whose first backslash (or flaw) is at `at`.
    fn escaped(&mut self, mut at: usize) -> Option<()> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(at)? {
                b'"' => break,
                b'\\' => at = stop(bytes, at + escape(bytes.get(at + 1..)?)? + 1)?,
                _ => return None,
            }
        }
        self.at = at + 1;
        Some(())
    }

    /// Where the inside of the string begins that stands here.
    #[inline]
    fn at_string(&mut self) -> Option<usize> {
        (self.next()? == b'"').then_some(self.at + 1)
    }

    /// Reads a number; gives it where it is a whole one that is not negative and fits.
    #[inline]
    fn number(&mut self) -> Option<Option<u64>> {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        let is_negative = *bytes.get(at)? == b'-';
        at += usize::from(is_negative);
        let start = at;
        let mut value = 0_u64;
        while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            at += 1;
        }
        let digits = at - start;
        if digits == 0 || digits > DIGITS_MAX || (digits > 1 && *bytes.get(start)? == b'0') {
            return None;
        }
        let mut is_whole = !is_negative;
        if bytes.get(at) == Some(&b'.') {
            is_whole = false;
            let fraction = bytes.get(at + 1..)?;
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 || digits > DIGITS_MAX {
                return None;
            }
            at += 1 + digits;
        }
        // An exponent can take a number out of every range.
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            return None;
        }
        self.at = at;
        Some(is_whole.then_some(value))
    }

    fn literal(&mut self, word: &str) -> Option<()> {
        self.text.as_bytes().get(self.at..)?.starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    /// Reads any value whose objects are of no interest: names may stand there twice.
    pub(crate) fn skip(&mut self) -> Option<Kind> {
        Some(match self.next()? {
            b'{' => {
                self.object(|scan, _| scan.skip().map(|_| ()))?;
                Kind::Object
            }
            b'[' => {
                self.array(|scan| scan.skip().map(|_| ()))?;
                Kind::Array
            }
            first => self.scalar(first)?,
        })
    }

    /// Reads any value in which no object may have a name twice.
    pub(crate) fn walk(&mut self, open: &mut OpenNames<'a>) -> Option<Kind> {
        Some(match self.next()? {
            b'{' => {
                let base = open.len;
                self.object(|scan, name| {
                    open.add(base, name)?;
                    scan.walk(open).map(|_| ())
                })?;
                open.len = base;
                Kind::Object
            }
            b'[' => {
                self.array(|scan| scan.walk(open).map(|_| ()))?;
                Kind::Array
            }
            first => self.scalar(first)?,
        })
    }

    fn scalar(&mut self, first: u8) -> Option<Kind> {
        match first {
            b'"' => self.string().map(|()| Kind::String),
            b'n' => self.literal("null").map(|()| Kind::Null),
            b't' => self.literal("true").map(|()| Kind::Bool),
            b'f' => self.literal("false").map(|()| Kind::Bool),
            _ => self.number().map(|_| Kind::Number),
        }
    }

    /// Skips a value; gives its kind and its text.
    pub(crate) fn raw(&mut self) -> Option<(Kind, &'a str)> {
        self.next()?;
        let start = self.at;
        let kind = self.skip()?;
        Some((kind, self.text.get(start..self.at)?))
    }

    /// Reads a null.
    pub(crate) fn null(&mut self) -> Option<()> {
        self.next()?;
        self.literal("null")
    }

    /// Reads a string without escapes, or nothing of another type.
    pub(crate) fn text(&mut self) -> Option<Option<&'a str>> {
        if self.next()? == b'"' { self.plain_string().map(Some) } else { self.skip().map(|_| None) }
    }

    /// Reads a whole number that is not negative, or nothing of another type.
    pub(crate) fn count(&mut self) -> Option<Option<u64>> {
        match self.next()? {
            // What is no such number (a fraction, a negative one) is for the full reader to judge.
            b'0'..=b'9' | b'-' => self.number()?.map(Some),
            _ => self.skip().map(|_| None),
        }
    }

    /// The same where no object may have a name twice.
    pub(crate) fn count_walked(&mut self, open: &mut OpenNames<'a>) -> Option<Option<u64>> {
        match self.next()? {
            b'0'..=b'9' | b'-' => self.count(),
            _ => self.walk(open).map(|_| None),
        }
    }

    /// Reads a value and says whether it says anything: it is not null, false, nor an empty string, array or object.
    pub(crate) fn says(&mut self) -> Option<bool> {
        let (kind, text) = self.raw()?;
        Some(match kind {
            Kind::Null => false,
            Kind::Bool => text == "true",
            Kind::Number => true,
            Kind::String => text.len() > 2,
            Kind::Array | Kind::Object => {
                text.as_bytes().get(1..text.len() - 1).is_some_and(|inside| !inside.trim_ascii().is_empty())
            }
        })
    }
}

/// The length of an escape behind its backslash. A surrogate is left to the full reader.
fn escape(rest: &[u8]) -> Option<usize> {
    match rest.first()? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(1),
        b'u' => {
            let digits = rest.get(1..5)?;
            let is_surrogate = matches!(digits, [b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', ..]);
            (digits.iter().all(u8::is_ascii_hexdigit) && !is_surrogate).then_some(5)
        }
        _ => None,
    }
}

/// Where the first quote, backslash or control character is, `from` on.
#[inline]
fn stop(bytes: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut at = from;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        // With this bit turned over, a quote is the next character behind the control characters. A borrow makes bytes
        // above a match look like one, so only the first counts; bytes beyond ASCII are none.
        let quote_or_control = (word ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
        let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
        let found = (quote_or_control | backslash) & !word & (ONES << 7);
        if found != 0 {
            return usize::try_from(found.trailing_zeros() / 8).ok().map(|within| at + within);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).map(|within| at + within)
}
