//! A small parser of the text format that Prometheus scrapes, strict about what it must not be.

use std::collections::BTreeMap;

/// One line: a name, its labels and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Reads all samples.
///
/// # Errors
///
/// Names the first line that is not of the format, or has no type.
pub(crate) fn parse(text: &str) -> Result<Vec<Sample>, String> {
    let mut types = BTreeMap::new();
    let mut samples = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            if words.next() == Some("TYPE") {
                let (name, kind) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
                let known = ["counter", "gauge", "histogram", "summary", "untyped"];
                if !known.contains(&kind)
                    || types.insert(name.to_owned(), kind.to_owned()).is_some()
                {
                    return Err(format!("a type that is unknown or given twice: {line}"));
                }
            }
            continue;
        }
        let sample = sample(line).ok_or_else(|| format!("no sample: {line}"))?;
        let name = &sample.name;
        let bases = ["_count", "_sum", "_bucket"]
            .iter()
            .filter_map(|end| name.strip_suffix(end));
        if !std::iter::once(name.as_str())
            .chain(bases)
            .any(|name| types.contains_key(name))
        {
            return Err(format!("a sample without a type: {line}"));
        }
        samples.push(sample);
    }
    Ok(samples)
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let is_name = |(at, char): (usize, char)| {
        char.is_ascii_alphabetic() || "_:".contains(char) || at > 0 && char.is_ascii_digit()
    };
    if name.is_empty() || !name.char_indices().all(is_name) {
        return None;
    }
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let mut words = rest.split_whitespace();
    let value = words.next()?.parse().ok()?;
    words.next().is_none().then(|| Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// A value up to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            char => value.push(char),
        }
    }
    None
}
