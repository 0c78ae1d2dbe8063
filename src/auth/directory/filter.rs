//! Search filters: parsed once from the text of a configuration (RFC 4515), and then a tree whose values may have a place for a
//! user's name.

use thiserror::Error;

/// A search filter (RFC 4511 §4.5.1.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All of them match.
    And(Vec<Self>),
    /// One of them matches.
    Or(Vec<Self>),
    /// It does not match.
    Not(Box<Self>),
    /// The attribute has any value.
    Present(String),
    /// A value of the attribute compares so with this one.
    Compare(Comparison, String, Value),
    /// A value of the attribute has these parts in this order.
    Substrings {
        /// The attribute.
        attribute: String,
        /// What it begins with.
        first: Option<Value>,
        /// What is between.
        middle: Vec<Value>,
        /// What it ends with.
        last: Option<Value>,
    },
    /// A matching rule says that a value matches this one.
    Extensible {
        /// The name or number of the rule; `None`: the attribute's own.
        rule: Option<String>,
        /// The attribute; `None`: all that the rule applies to.
        attribute: Option<String>,
        /// What is looked for.
        value: Value,
        /// Do the attributes of the entry's name count too?
        of_dn: bool,
    },
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `~=`
    Like,
}

/// A value in a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Bytes(Vec<u8>),
    User,
}

/// Why a text is not a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FilterError {
    /// A parenthesis is missing, or something stands outside of them.
    #[error(
        "is not a filter such as \"(uid={{user}})\": its parentheses do not match, or something stands beside them"
    )]
    Parentheses,
    /// No attribute where one is needed.
    #[error("has no usable attribute where one is needed, as in \"(uid={{user}})\"")]
    Attribute,
    /// A value that must not be as it is.
    #[error(
        "has a value with something that must be escaped: write * as \\2a, ( as \\28, ) as \\29, \\ as \\5c, {{ as \\7b, }} as \\7d"
    )]
    Value,
    /// Deeper than anybody needs.
    #[error("is nested too deeply")]
    Depth,
    /// Everybody would be found.
    #[error("has no {{user}}, so that it would find the same for everybody")]
    NoUser,
}

impl Filter {
    /// Parses a filter that looks for a user.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut cursor = Cursor { rest: text.as_bytes() };
        let filter = cursor.filter(DEPTH)?;
        match cursor.rest {
            [] if filter.names_user() => Ok(filter),
            [] => Err(FilterError::NoUser),
            _ => Err(FilterError::Parentheses),
        }
    }

    /// Any entry: each has an object class.
    pub fn anything() -> Self {
        Self::Present("objectClass".into())
    }

    /// A value of `attribute` is this one; with a rule, by that.
    pub fn equals(attribute: &str, rule: Option<&str>, value: &str) -> Self {
        let value = Value(vec![Part::Bytes(value.as_bytes().to_vec())]);
        match rule {
            None => Self::Compare(Comparison::Equal, attribute.to_owned(), value),
            Some(rule) => Self::Extensible {
                rule: Some(rule.to_owned()),
                attribute: Some(attribute.to_owned()),
                value,
                of_dn: false,
            },
        }
    }

    fn names_user(&self) -> bool {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().any(Self::names_user),
            // Whom it does not find is everybody else.
            Self::Not(_) | Self::Present(_) => false,
            Self::Compare(_, _, value) | Self::Extensible { value, .. } => value.names_user(),
            Self::Substrings { first, middle, last, .. } => {
                first.iter().chain(middle).chain(last).any(Value::names_user)
            }
        }
    }
}

impl Value {
    /// The bytes, with the name where its place is.
    pub fn of(&self, user: &str) -> Vec<u8> {
        let bytes = |part: &'_ Part| match part {
            Part::Bytes(bytes) => bytes.clone(),
            Part::User => user.as_bytes().to_vec(),
        };
        self.0.iter().flat_map(bytes).collect()
    }

    fn names_user(&self) -> bool {
        self.0.contains(&Part::User)
    }
}

/// Is this the name or the number of an attribute, perhaps with options (RFC 4512 §2.5)?
pub fn is_attribute(text: &str) -> bool {
    let mut parts = text.split(';');
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_type = parts.next().is_some_and(|name| {
        let is_number = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic()) && is_word(name);
        is_name || name.split('.').all(is_number)
    });
    is_type && parts.all(is_word)
}

/// What stands for the name of the user in a filter and in a distinguished name.
pub(super) const USER: &str = "{user}";

/// Filters inside filters.
const DEPTH: u32 = 16;

struct Cursor<'t> {
    rest: &'t [u8],
}

impl<'t> Cursor<'t> {
    fn filter(&mut self, depth: u32) -> Result<Filter, FilterError> {
        let depth = depth.checked_sub(1).ok_or(FilterError::Depth)?;
        self.eat(b"(")?;
        let filter = match self.rest.first() {
            Some(b'&') => Filter::And(self.list(depth)?),
            Some(b'|') => Filter::Or(self.list(depth)?),
            Some(b'!') => {
                self.skip();
                Filter::Not(Box::new(self.filter(depth)?))
            }
            _ => self.item()?,
        };
        self.eat(b")")?;
        Ok(filter)
    }

    /// At least one, since none is a filter that matches everything or nothing.
    fn list(&mut self, depth: u32) -> Result<Vec<Filter>, FilterError> {
        self.skip();
        let mut list = vec![self.filter(depth)?];
        while self.rest.first() == Some(&b'(') {
            list.push(self.filter(depth)?);
        }
        Ok(list)
    }

    fn item(&mut self) -> Result<Filter, FilterError> {
        let name = self.take_until(|byte| b"=<>~:()".contains(&byte));
        let name = std::str::from_utf8(name).map_err(|_| FilterError::Attribute)?;
        if self.rest.first() == Some(&b':') {
            return self.extensible(name);
        }
        if !is_attribute(name) {
            return Err(FilterError::Attribute);
        }
        let comparisons =
            [(&b">="[..], Comparison::AtLeast), (b"<=", Comparison::AtMost), (b"~=", Comparison::Like)];
        for (operator, comparison) in comparisons {
            if self.eat(operator).is_ok() {
                return Ok(Filter::Compare(comparison, name.to_owned(), self.single()?));
            }
        }
        self.eat(b"=").map_err(|_| FilterError::Attribute)?;
        self.equality(name.to_owned())
    }

    /// `=value`, `=*`, `=first*middle*last`
    fn equality(&mut self, attribute: String) -> Result<Filter, FilterError> {
        let mut values = vec![self.value()?];
        while self.eat(b"*").is_ok() {
            values.push(self.value()?);
        }
        let last = values.pop().ok_or(FilterError::Value)?;
        let mut values = values.into_iter();
        let Some(first) = values.next() else {
            return Ok(Filter::Compare(Comparison::Equal, attribute, last));
        };
        let middle: Vec<Value> = values.collect();
        if middle.is_empty() && first.0.is_empty() && last.0.is_empty() {
            return Ok(Filter::Present(attribute));
        }
        if middle.iter().any(|value| value.0.is_empty()) {
            return Err(FilterError::Value);
        }
        let some = |value: Value| (!value.0.is_empty()).then_some(value);
        Ok(Filter::Substrings { attribute, first: some(first), middle, last: some(last) })
    }

    /// `attribute:dn:rule:=value`, with at least one of attribute and rule
    fn extensible(&mut self, attribute: &str) -> Result<Filter, FilterError> {
        let of_dn = [&b":dn:"[..], b":DN:"].iter().any(|word| {
            // Its last colon is the next part's.
            let is_there = self.rest.starts_with(word);
            if is_there {
                self.rest = self.rest.get(3..).unwrap_or_default();
            }
            is_there
        });
        let mut rule = None;
        if self.eat(b":=").is_err() {
            self.eat(b":")?;
            let name = self.take_until(|byte| b":()".contains(&byte));
            rule = Some(std::str::from_utf8(name).map_err(|_| FilterError::Attribute)?.to_owned());
            self.eat(b":=").map_err(|_| FilterError::Attribute)?;
        }
        let attribute = (!attribute.is_empty()).then(|| attribute.to_owned());
        let mut names = rule.iter().chain(&attribute).peekable();
        if names.peek().is_none() || !names.all(|name| is_attribute(name)) {
            return Err(FilterError::Attribute);
        }
        Ok(Filter::Extensible { rule, attribute, value: self.single()?, of_dn })
    }

    /// A value without wildcards.
    fn single(&mut self) -> Result<Value, FilterError> {
        let value = self.value()?;
        if self.rest.first() == Some(&b'*') { Err(FilterError::Value) } else { Ok(value) }
    }

    /// Up to a wildcard or the closing parenthesis.
    fn value(&mut self) -> Result<Value, FilterError> {
        let mut parts = Vec::new();
        loop {
            let plain = self.take_until(|byte| b"*()\\{}\0".contains(&byte));
            if !plain.is_empty() {
                parts.push(Part::Bytes(plain.to_vec()));
            }
            match self.rest.first() {
                Some(b'\\') => parts.push(Part::Bytes(vec![self.escape().ok_or(FilterError::Value)?])),
                Some(b'{') => {
                    self.eat(USER.as_bytes()).map_err(|_| FilterError::Value)?;
                    parts.push(Part::User);
                }
                Some(b'*' | b')') => return Ok(Value(parts)),
                Some(_) => return Err(FilterError::Value),
                None => return Err(FilterError::Parentheses),
            }
        }
    }

    /// A backslash and two hexadecimal digits.
    fn escape(&mut self) -> Option<u8> {
        let [b'\\', high, low, rest @ ..] = self.rest else { return None };
        self.rest = rest;
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        u8::try_from(digit(high)? * 16 + digit(low)?).ok()
    }

    fn take_until(&mut self, is_end: impl Fn(u8) -> bool) -> &'t [u8] {
        let length = self.rest.iter().position(|byte| is_end(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    fn eat(&mut self, text: &[u8]) -> Result<(), FilterError> {
        self.rest = self.rest.strip_prefix(text).ok_or(FilterError::Parentheses)?;
        Ok(())
    }

    fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests;
