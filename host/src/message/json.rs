//! JSON with its doubled members kept, so that they can be refused.
//!
//! cJSON takes the first of two members of one name, other parsers the last; and it
//! ignores case. Whoever can add a member to a message could choose what each of
//! them sees. Here a doubled member is an error where it is looked up.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::Malformed;

/// The largest message that asks for something new. Wazuh's own are at most 64 KiB.
pub const LARGEST: usize = 1 << 20;

/// The largest line: a delete repeats its add, in other words.
pub const LARGEST_LINE: usize = LARGEST + 1024;

/// A value. Numbers keep the text that serde makes of them: they are names here.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, its members in their order.
    Object(Vec<(String, Json)>),
}

/// A name that more than one member has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ambiguous(pub String);

/// A message that nobody has to read.
pub(super) fn too_large() -> Malformed {
    Malformed::NotJson(format!("it has more than {LARGEST} bytes"))
}

/// Reads the first object of `line`; what follows it is ignored, as the original
/// does. Its depth is capped by the parser at 128.
///
/// # Errors
/// When there is none.
pub fn parse(line: &[u8]) -> Result<Json, Malformed> {
    if line.len() > LARGEST_LINE {
        return Err(too_large());
    }
    // A NUL ends a C string, and bytes that are no UTF-8 are somebody's user name.
    let text = line.split(|b| *b == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.trim().is_empty() {
        return Err(Malformed::Empty);
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let json = Json::deserialize(&mut reader).map_err(|e| Malformed::NotJson(e.to_string()))?;
    if json.is_object() {
        Ok(json)
    } else {
        Err(Malformed::NotJson("it is another value".into()))
    }
}

impl Json {
    /// The member of that name, whatever its case.
    ///
    /// # Errors
    /// When there are two.
    pub fn get(&self, name: &str) -> Result<Option<&Self>, Ambiguous> {
        let Self::Object(members) = self else {
            return Ok(None);
        };
        let mut found = members
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(Ambiguous(name.to_owned())),
            (first, _) => Ok(first.map(|(_, value)| value)),
        }
    }

    /// The member at a path like `data.srcip`.
    ///
    /// # Errors
    /// When a name on the way is doubled.
    pub fn at(&self, path: &str) -> Result<Option<&Self>, Ambiguous> {
        let mut here = self;
        for name in path.split('.') {
            match here.get(name)? {
                Some(next) => here = next,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    /// The string or the number as text.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::String(text) => Some(text.clone()),
            Self::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The strings of an array; everything else in it is skipped.
    #[must_use]
    pub fn strings(&self) -> Vec<String> {
        match self {
            Self::Array(items) => items
                .iter()
                .filter_map(|i| i.as_str().map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Json::Object(object))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Number(number) => number.serialize(to),
            Self::String(text) => to.serialize_str(text),
            Self::Array(items) => to.collect_seq(items),
            Self::Object(members) => {
                let mut map = to.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}
