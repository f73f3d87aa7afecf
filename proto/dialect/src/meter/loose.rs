//! Readers that take what they need and shrug at the rest.
//!
//! A reply is relayed whatever it holds as long as it is JSON: a provider that sends `"model": 7` has not broken the
//! stream. So these read a value of the type they want and count any other as absent.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Fills in the visits of a [`Visitor`] that mean "not what we look for".
macro_rules! absent {
    (scalar $none:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON value")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($none)
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($none)
        }
    };
    (number $none:expr) => {
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($none)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($none)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($none)
        }
    };
    (string $none:expr) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($none)
        }
    };
    (seq $none:expr) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok($none)
        }
    };
    (map $none:expr) => {
        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($none)
        }
    };
}

/// A string, or nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Text<'a>(Option<Cow<'a, str>>);

impl<'a> Text<'a> {
    pub(super) fn of(text: Option<&'a str>) -> Self {
        Self(text.map(Cow::Borrowed))
    }

    pub(super) fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    absent!(scalar Text(None));
    absent!(number Text(None));
    absent!(seq Text(None));
    absent!(map Text(None));

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Some(Cow::Owned(text.to_owned()))))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(TextVisitor)
    }
}

/// A count, or nothing. Negative numbers are nothing; fractions are cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count(pub(super) Option<u64>);

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    absent!(scalar Count(None));
    absent!(string Count(None));
    absent!(seq Count(None));
    absent!(map Count(None));

    fn visit_u64<E>(self, count: u64) -> Result<Self::Value, E> {
        Ok(Count(Some(count)))
    }

    fn visit_i64<E>(self, count: i64) -> Result<Self::Value, E> {
        Ok(Count(u64::try_from(count).ok()))
    }

    fn visit_f64<E>(self, count: f64) -> Result<Self::Value, E> {
        // Through text, because that refuses what does not fit. Only servers that write `12.0` pay for it.
        Ok(Count(format!("{:.0}", count.trunc()).parse().ok()))
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(CountVisitor)
    }
}

/// Whether a value says anything: it is not null, false, an empty string, an empty array or an empty object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Says(pub(super) bool);

struct SaysVisitor;

impl<'de> Visitor<'de> for SaysVisitor {
    type Value = Says;

    absent!(number Says(true));

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Says, E> {
        Ok(Says(false))
    }

    fn visit_bool<E>(self, says: bool) -> Result<Says, E> {
        Ok(Says(says))
    }

    fn visit_str<E>(self, text: &str) -> Result<Says, E> {
        Ok(Says(!text.is_empty()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Says, A::Error> {
        let mut says = false;
        while items.next_element::<IgnoredAny>()?.is_some() {
            says = true;
        }
        Ok(Says(says))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Says, A::Error> {
        let mut says = false;
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            says = true;
        }
        Ok(Says(says))
    }
}

impl<'de> Deserialize<'de> for Says {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(SaysVisitor)
    }
}

/// An object of some type, or nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    absent!(scalar Object(None));
    absent!(number Object(None));
    absent!(string Object(None));
    absent!(seq Object(None));

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(|object| Object(Some(object)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// What an array amounts to; each item is taken in as it is read, and none is kept.
pub(super) trait Fold<'de>: Default {
    /// One item.
    type Item: Deserialize<'de>;

    /// Takes in the next item.
    fn take(&mut self, item: Self::Item);
}

/// The items of an array folded into one value, or nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folded<T>(pub(super) Option<T>);

impl<T> Default for Folded<T> {
    fn default() -> Self {
        Self(None)
    }
}

struct FoldVisitor<T>(PhantomData<T>);

impl<'de, T: Fold<'de>> Visitor<'de> for FoldVisitor<T> {
    type Value = Folded<T>;

    absent!(scalar Folded(None));
    absent!(number Folded(None));
    absent!(string Folded(None));
    absent!(map Folded(None));

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut folded = T::default();
        while let Some(item) = items.next_element()? {
            folded.take(item);
        }
        Ok(Folded(Some(folded)))
    }
}

impl<'de, T: Fold<'de>> Deserialize<'de> for Folded<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(FoldVisitor(PhantomData))
    }
}

/// Reads an object, or nothing when `text` is no JSON or no object (or names a member twice: see [`last_wins`]).
pub(super) fn object<'de, T: Deserialize<'de>>(text: &'de str) -> Option<T> {
    serde_json::from_str::<Object<T>>(text).ok()?.0
}

/// The same object with each member once, the last of its name, as most clients read it; `None` when `text` is no JSON
/// object. For the rare text whose typed read failed.
pub(super) fn last_wins(text: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    value.is_object().then(|| value.to_string())
}

/// The text of a member that is there, be it null.
pub(super) fn raw<'de: 'a, 'a, D: Deserializer<'de>>(reader: D) -> Result<Option<&'a str>, D::Error> {
    <&RawValue>::deserialize(reader).map(|raw| Some(raw.get()))
}
