//! The table of messages: `messages.txt`, read once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Every message that a body can hold.
pub(super) static MESSAGES: LazyLock<Messages> =
    LazyLock::new(|| Messages::parse(include_str!("messages.txt")));

/// Messages, by name and by place.
#[derive(Debug)]
pub(super) struct Messages {
    places: BTreeMap<&'static str, usize>,
    all: Vec<Message>,
}

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    /// Fields, by number.
    pub(super) fields: BTreeMap<u32, Field>,
}

/// One field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// Its name in JSON.
    pub(super) name: &'static str,
    pub(super) count: Count,
    pub(super) form: Form,
    pub(super) mark: Mark,
}

/// How often a field occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    One,
    Repeated,
    Map,
}

/// What a field says of its zero and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A zero is the same as nothing.
    Plain,
    /// Clients tell a zero from nothing.
    Pointer,
    /// In the JSON even when it is zero.
    Always,
    /// The message's fields stand beside the field in the JSON.
    Inline,
}

/// What one value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    String,
    Int32,
    Int64,
    Bool,
    Bytes,
    Double,
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    /// `metav1.FieldsV1`: JSON in bytes.
    Fields,
    /// `runtime.RawExtension`: JSON in bytes.
    Raw,
    /// The message at this place of the table.
    Message(usize),
    /// A message whose one field repeats this: a list in JSON.
    Items(Box<Self>),
}

impl Message {
    /// The JSON names of the fields of which a zero is the same as nothing, those of inner messages that stand beside
    /// its own too.
    pub(super) fn fields_that_omit_zero(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for field in self.fields.values() {
            match (field.mark, &field.form) {
                (Mark::Inline, Form::Message(place)) => {
                    names.extend(MESSAGES.at(*place).fields_that_omit_zero());
                }
                (Mark::Plain, _) => names.push(field.name),
                (Mark::Pointer | Mark::Always | Mark::Inline, _) => (),
            }
        }
        names
    }
}

impl Messages {
    /// The message of a kind. Options travel in the version of the object they are about.
    pub(super) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let group = group.split('.').next().unwrap_or(group);
        let place = self
            .places
            .get(format!("{group}.{version}.{kind}").as_str())
            .or_else(|| {
                self.places.get(format!("meta.v1.{kind}").as_str()).filter(|_| kind.ends_with("Options"))
            })
            .or_else(|| self.places.get("meta.v1.Status").filter(|_| kind == "Status"))?;
        self.all.get(*place)
    }

    /// The message of a name.
    pub(super) fn named(&self, name: &str) -> Option<&Message> {
        self.all.get(*self.places.get(name)?)
    }

    /// The message at a place.
    pub(super) fn at(&self, place: usize) -> &Message {
        &self.all[place]
    }

    fn parse(text: &'static str) -> Self {
        let is_name = |line: &&str| !line.is_empty() && !line.starts_with([' ', '#']);
        let places: BTreeMap<_, _> =
            text.lines().filter(is_name).enumerate().map(|(at, name)| (name, at)).collect();
        let mut all: Vec<Message> = Vec::with_capacity(places.len());
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix(' ') {
                None => all.push(Message { fields: BTreeMap::new() }),
                Some(field) => {
                    let (number, field) =
                        parse_field(&places, field).expect("the table in this folder is well formed");
                    all.last_mut().expect("a name stands before its fields").fields.insert(number, field);
                }
            }
        }
        Self { places, all }
    }
}

fn parse_field(places: &BTreeMap<&str, usize>, line: &'static str) -> Option<(u32, Field)> {
    let mut words = line.split(' ');
    let number = words.next()?.parse().ok()?;
    let name = words.next()?;
    let form = words.next()?;
    let mark = match words.next() {
        None => Mark::Plain,
        Some("?") => Mark::Pointer,
        Some("!") => Mark::Always,
        Some("<") => Mark::Inline,
        Some(_) => return None,
    };
    let (count, form) = if let Some(form) = form.strip_prefix("[]") {
        (Count::Repeated, form)
    } else if let Some(form) = form.strip_prefix("{}") {
        (Count::Map, form)
    } else {
        (Count::One, form)
    };
    Some((number, Field { name, count, form: parse_form(places, form)?, mark }))
}

fn parse_form(places: &BTreeMap<&str, usize>, form: &str) -> Option<Form> {
    Some(match form {
        "string" => Form::String,
        "int32" => Form::Int32,
        "int64" => Form::Int64,
        "bool" => Form::Bool,
        "bytes" => Form::Bytes,
        "double" => Form::Double,
        "time" => Form::Time,
        "microtime" => Form::MicroTime,
        "duration" => Form::Duration,
        "quantity" => Form::Quantity,
        "intorstring" => Form::IntOrString,
        "fields" => Form::Fields,
        "raw" => Form::Raw,
        _ => match form.strip_prefix("items:") {
            Some(inner) => Form::Items(Box::new(parse_form(places, inner)?)),
            None => Form::Message(*places.get(form)?),
        },
    })
}
